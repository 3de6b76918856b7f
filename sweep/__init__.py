"""Rigorous speed comparison of deep-learning frameworks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweep.analysis.run import Run

__version__ = "0.1.0"


def load(run: str | Path) -> Run:
    """Return a run, from a folder or a URI: its records, `.summary()` and `.compare(over=…)`."""
    from sweep.analysis.run import Run  # PyArrow and SciPy, which most commands do without

    return Run(run)
