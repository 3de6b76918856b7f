"""What a call of the command line gives; the fixture `sweep` makes such calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Said(NamedTuple):
    code: int
    out: str
    err: str


Sweep = Callable[..., Said]
