"""The vocabulary of optimizers: the update rule of each, the same in every framework.

p is a parameter, g the gradient of the loss with respect to it, and t the number of the update,
from 1. All state begins as zeros. Framework files translate each rule to their native optimizers.
"""

from typing import Any, Dict, NamedTuple, Optional, Tuple


class MomentumSGD(NamedTuple):
    """v = momentum * v + g; p = p - learning_rate * v

    Frameworks that keep -learning_rate * v instead compute the same: the learning rate is constant.
    """

    learning_rate: float = 0.01
    momentum: float = 0.9


class Adam(NamedTuple):
    """Adam: Kingma and Ba 2015, algorithm 1.

        m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g ** 2
        p = p - learning_rate * m / (1 - beta1 ** t) / (sqrt(v / (1 - beta2 ** t)) + epsilon)

    Some implementations add epsilon to sqrt(v) before its correction; `uncorrected_epsilon` makes
    them compute the same.
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
    """Return the rule called `name`, with its default learning rate unless one is given.

    ValueError with the known names if there is none.
    """
    if name not in OPTIMIZERS:
        raise ValueError(
            "there is no optimizer {!r}: it is one of {}".format(
                name, ", ".join(sorted(OPTIMIZERS))
            )
        )
    rule = OPTIMIZERS[name]()
    return rule if learning_rate is None else rule._replace(learning_rate=learning_rate)


def uncorrected_epsilon(rule: Adam, update: int) -> float:
    """Return epsilon for implementations that add it to sqrt(v) before its correction.

    `update` is the number of the update.
    """
    return float(rule.epsilon * (1 - rule.beta2**update) ** 0.5)
