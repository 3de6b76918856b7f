"""Declarations about a column: its direction, its unit of replication, the meaning of no value.

A module of its own, since it is also read where importing PyArrow, as `columns` does, would take
longer than all other work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

Direction = Literal["less", "more", "none"]
Per = Literal["sample", "trial", "host", "environment", "node"]
Identity = Literal["", "cell", "trial"]

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
UNITS_OF_REPLICATION: tuple[Per, ...] = get_args(Per)
NEVER = "never"


def validate(declaration: Mapping[str, Any]) -> dict[str, str]:
    """Return what a plug-in declares of one of its columns; raise ValueError where it is wrong."""
    choices = {"direction": DIRECTIONS, "per": UNITS_OF_REPLICATION, "absent": (NEVER,)}
    for key, value in declaration.items():
        if key not in ("unit", "meaning", *choices):
            raise ValueError(f"{key!r} is none of unit, meaning, {', '.join(choices)}")
        if not isinstance(value, str) or value not in choices.get(key, (value,)):
            wanted = f"none of {', '.join(choices[key])}" if key in choices else "no text"
            raise ValueError(f"{key} is {value!r} and {wanted}")
    return dict(declaration)
