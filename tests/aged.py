"""torch 1.0.1 as workloads would find 0.1.10: what came later is not there, when they are the ones who ask.

torch itself goes on using it. What cannot be taken away, such as broadcasting, is named in
docs/frameworks.md.
"""

import sys
import types

LATER_IN_TORCH = ["no_grad", "arange", "device", "float32", "set_grad_enabled", "where", "flatten"]
LATER_IN_TENSORS = [
    "item",
    "to",
    "shape",
    "dtype",
    "device",
    "reshape",
    "flatten",
    "grad_fn",
    "requires_grad_",
]
LATER_IN_MODULES = ["named_parameters", "to"]


def age(torch):
    """Hides it all from `torch` and its classes."""
    torch.Tensor.creator = property(torch.Tensor.grad_fn.__get__)  # as grad_fn was called
    hide(torch.Tensor, LATER_IN_TENSORS)
    hide(torch.nn.Module, LATER_IN_MODULES)
    hide(torch.autograd.Function, ["apply"])
    torch.__class__ = type(
        "Aged", (types.ModuleType,), {name: Hidden(name) for name in LATER_IN_TORCH}
    )
    torch.__version__ = "0.1.10_2"


class Hidden:
    """An attribute that workloads do not find; all others do."""

    def __init__(self, name, real=None):
        self.name, self.real = name, real

    def __get__(self, instance, owner=None):
        asking = sys._getframe(1).f_globals.get("__name__", "")
        if asking.startswith("workloads"):
            raise AttributeError(f"torch 0.1.10 has no {self.name!r}")
        if self.real is None:
            return instance.__dict__[self.name]
        return self.real.__get__(instance, owner)

    def __set__(self, instance, value):
        """Makes it a data descriptor, which comes before the instance's own attributes."""
        raise AttributeError(self.name)


def hide(owner, names):
    """Hides attributes of a class."""
    for name in names:
        real = next(kind.__dict__[name] for kind in owner.__mro__ if name in kind.__dict__)
        setattr(owner, name, Hidden(name, real))
