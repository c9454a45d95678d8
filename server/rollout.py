"""Several values ahead in one run, where the artifact has a graph that reads what it says.

Without one, a horizon is reached by a run for each value. What a call gets does not depend on its neighbours.
"""

from typing import NamedTuple

from export.artifact.manifest import CARRY, SLIDING

# Larger runs gain nothing over one for each value, and would keep other calls waiting for as many runs.
MOST_SLIDING_WINDOWS = 32


class Rollout(NamedTuple):
    """A graph of `length` values ahead, for runs of up to `max_windows`."""

    graph: str
    length: int
    max_windows: int

    def pays(self, num_values: int) -> bool:
        """Whether so many values are worth a run that gives `length`; a state that goes on has no other way."""
        return num_values > 1 and (self.graph == CARRY or 2 * num_values >= self.length)


def rollout_of(graph: str, length: int, *, max_batch_windows: int) -> Rollout:
    """How a rollout is run by a server that takes up to `max_batch_windows` otherwise."""
    limit = MOST_SLIDING_WINDOWS if graph == SLIDING else max(1, max_batch_windows // 2)
    return Rollout(graph, length, min(limit, max_batch_windows))
