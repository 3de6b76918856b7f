"""Folders of the node that a trial's process was given by its request, apart from those of the workload."""

from typing import Optional

weights: Optional[str] = None  # of initial weights that processes share
