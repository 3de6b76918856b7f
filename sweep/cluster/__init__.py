"""Ray in the shape of `map`: `Cluster` runs trials on nodes and yields their records."""

from sweep.cluster.cluster import Cluster
from sweep.cluster.infeasible import InfeasibleTrial, infeasible_error

__all__ = ["Cluster", "InfeasibleTrial", "infeasible_error"]
