"""What can be stated of a column: which way is better, what has one value of it, what it means to have none.

Read where PyArrow, which the columns themselves take, would cost more time than all the rest.
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


def checked(said: Mapping[str, Any]) -> dict[str, str]:
    """What a plug-in states of a column of its own; ValueError says what of it cannot be."""
    choices = {"direction": DIRECTIONS, "per": UNITS_OF_REPLICATION, "absent": (NEVER,)}
    for key, value in said.items():
        if key not in ("unit", "meaning", *choices):
            raise ValueError(f"{key!r} is none of unit, meaning, {', '.join(choices)}")
        if not isinstance(value, str) or value not in choices.get(key, (value,)):
            wanted = f"none of {', '.join(choices[key])}" if key in choices else "no text"
            raise ValueError(f"{key} is {value!r} and {wanted}")
    return dict(said)
