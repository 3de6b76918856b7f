"""Results: what a step returned, reduced to one number, whatever framework's array it is.

NumPy is used if the value is its array; it need not be installed.
"""

import math
from typing import Any, List, Optional

# Numbers converted at once: bounds the float64 copies of long arrays to 8 MiB.
_AT_ONCE = 1 << 20


class Result:
    """The number kept of a step; None before, and for a value that is neither number nor array."""

    def __init__(self) -> None:
        self.value = None  # type: Optional[float]

    def keep(self, returned: Any) -> None:
        self.value = reduced(returned)


def reduced(value: Any) -> Optional[float]:
    """Return a number as it is, an array of one number as that number, others as a Euclidean norm.

    Of a tuple or list that holds more than numbers, the first entry counts. None for anything else.
    """
    while isinstance(value, (tuple, list)) and value and not _is_number(value[0]):
        value = value[0]
    if _is_number(value):
        return float(value)
    if isinstance(value, (tuple, list)):
        return _norm_of_list(value)
    return _norm(_on_host(value))


def _norm(array: Any) -> Optional[float]:
    if not hasattr(array, "reshape") or not hasattr(array, "astype"):
        listed = getattr(array, "tolist", None) or getattr(array, "to_list", None)
        return _norm_of_list(listed()) if listed is not None else None
    if getattr(array.dtype, "kind", "") not in "biufcV":  # V: bfloat16, as JAX has it in NumPy
        return None
    flat = array.reshape(-1)
    if not len(flat):
        return None
    if len(flat) == 1:
        return float(flat[0])
    total = 0.0
    for start in range(0, len(flat), _AT_ONCE):
        part = abs(flat[start : start + _AT_ONCE]).astype("float64")
        total += float((part * part).sum())
    return math.sqrt(total)


def _norm_of_list(values: Any) -> Optional[float]:
    if _is_number(values):
        return float(values)
    numbers = [float(value) for value in _flattened(values) if _is_number(value)]
    if not numbers:
        return None
    return (
        numbers[0]
        if len(numbers) == 1
        else math.sqrt(math.fsum(number * number for number in numbers))
    )


def _flattened(values: Any) -> List[Any]:
    if not isinstance(values, (list, tuple)):
        return [values]
    return [each for value in values for each in _flattened(value)]


def _on_host(value: Any) -> Any:
    """Return an array as NumPy's, whatever its device and graph; other values unchanged."""
    if hasattr(value, "detach"):  # torch
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(getattr(value, "dtype", "")) else value
    if not hasattr(value, "tolist"):  # a Variable of torch before 0.4, or of Chainer
        value = getattr(value, "array", getattr(value, "data", value))
    if type(value).__module__.startswith("cupy"):
        value = value.get()
    for name in ("numpy", "to_numpy", "__array__"):
        convert = getattr(value, name, None)
        if convert is not None:
            return convert()
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))
