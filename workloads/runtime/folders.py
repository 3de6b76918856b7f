"""Folders that the request gives a trial's process, other than those of its workload."""

from typing import Optional

weights: Optional[str] = None  # of initial weights that processes share
