"""The vocabulary of update rules: what one step of an optimiser does, the same in every framework.

With p a parameter, g the gradient of the loss by it, t the number of the update, from 1; all state begins as zeros.
Framework files say what each rule means in their own native optimisers.
"""

from typing import Any, Dict, NamedTuple, Optional, Tuple


class MomentumSGD(NamedTuple):
    """v = momentum * v + g; p = p - learning_rate * v

    Frameworks that keep -learning_rate * v instead compute the same, since the learning rate does not change.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9


class Adam(NamedTuple):
    """m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g ** 2
    p = p - learning_rate * m / (1 - beta1 ** t) / (sqrt(v / (1 - beta2 ** t)) + epsilon)

    Kingma and Ba 2015, algorithm 1. Implementations that add epsilon to sqrt(v) before it is corrected are given
    `uncorrected_epsilon`, which makes them compute this.
    """

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    @property
    def betas(self) -> Tuple[float, float]:
        """Both decay rates."""
        return self.beta1, self.beta2


OPTIMIZERS: Dict[str, Any] = {"momentum_sgd": MomentumSGD, "adam": Adam}


def chosen(name: str, learning_rate: Optional[float]) -> Any:
    """The rule of that name, with its own learning rate where none is given; ValueError names those there are."""
    if name not in OPTIMIZERS:
        raise ValueError(
            "there is no optimizer {!r}: it is one of {}".format(
                name, ", ".join(sorted(OPTIMIZERS))
            )
        )
    rule = OPTIMIZERS[name]()
    return rule if learning_rate is None else rule._replace(learning_rate=learning_rate)


def uncorrected_epsilon(rule: Adam, update: int) -> float:
    """Epsilon for update number `update` where it is added to sqrt(v) as it is."""
    return float(rule.epsilon * (1 - rule.beta2**update) ** 0.5)
