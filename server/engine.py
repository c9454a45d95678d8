"""An artifact's graphs, and the plan that chooses among them."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.artifact import plan
from export.artifact.manifest import Manifest, PlanEntry
from server.provider import Provider
from server.rollout import Rollout, rollout_of
from server.session import MOST_BOUND, Session, load_session, session_options
from server.tensors import WINDOW, Tensors

__all__ = ["MOST_BOUND", "Engine", "Session", "load_session", "plan_for", "session_options"]


class Filling(NamedTuple):
    """How many rows a run has at least, and what their number is a multiple of."""

    fewest: int = 1
    multiple: int = 1

    def rows(self, num_windows: int) -> int:
        """Rows of a run of so many windows."""
        return max(self.fewest, num_windows + -num_windows % self.multiple)


class Engine:
    """Runs windows through the graph that the plan chooses for their number."""

    def __init__(
        self,
        manifest: Manifest,
        sessions: Mapping[str, Session],
        provider: Provider,
        entries: list[PlanEntry],
        *,
        filling: Filling | None = None,
        rollouts: Mapping[str, Session] | None = None,
    ) -> None:
        """`sessions` hold the graphs that the plan `entries` choose among, and those to be timed; `rollouts` others.

        Where `filling` wants more rows than a run has windows, its last window is repeated.
        """
        self.manifest = manifest
        self.provider = provider
        self._filling = filling or Filling()
        self.sessions = dict(sessions)
        self.rollouts = dict(rollouts or {})
        self.plan = entries

    @property
    def plan(self) -> list[PlanEntry]:
        """Which graph runs up to how many windows."""
        return self._plan

    @plan.setter
    def plan(self, entries: list[PlanEntry]) -> None:
        self._plan = entries
        # All but the last, which has none.
        self._bounds = [entry.max_batch for entry in entries if entry.max_batch is not None]
        self._graphs = [entry.graph for entry in entries]

    def graph_for(self, num_windows: int) -> str:
        """The name of the graph that runs so many windows."""
        return self._graphs[bisect_left(self._bounds, num_windows)]

    def run(self, inputs: Tensors) -> Tensors:
        """What follows each window, in raw units."""
        return self._run(self.sessions[self.graph_for(len(inputs[WINDOW]))], inputs)

    def roll(self, graph: str, inputs: Tensors) -> Tensors:
        """What follows each window, `next` [B, rollout], by one of the rollouts."""
        return self._run(self.rollouts[graph], inputs)

    def is_short(self, graph: str, num_windows: int) -> bool:
        """Whether such a run takes too little to be handed to another thread; `graph` is WINDOW or a rollout."""
        session = self.rollouts.get(graph) or self.sessions[self.graph_for(num_windows)]
        return session.is_short(self._filling.rows(num_windows))

    def _run(self, session: Session, inputs: Tensors) -> Tensors:
        num_windows = len(inputs[WINDOW])
        rows = self._filling.rows(num_windows)
        if num_windows == rows:
            return session.run(inputs)
        filled = session.run({name: _filled(array, rows) for name, array in inputs.items()})
        return {name: array[:num_windows] for name, array in filled.items()}

    def tune(self, largest: int) -> None:
        """Time every graph here, and plan with the fastest."""
        batches = {batch: self._zeros(batch) for batch in plan.buckets(largest)}

        def run(graph: str, batch: int) -> None:
            self.sessions[graph].run(batches[batch])

        # The unrolled graph is the one to fall back on, so it comes first.
        names = sorted(self.sessions, key=lambda name: name != WINDOW)
        self.plan = plan.fastest(run, names, clock=time.perf_counter, largest=largest)
        chosen = {entry.graph for entry in self.plan}
        self.sessions = {name: session for name, session in self.sessions.items() if name in chosen}

    def nodes_by_provider(self) -> Counter[str]:
        """Nodes of all served graphs by provider."""
        return sum((session.nodes_by_provider() for session in self._served()), Counter())

    def nodes_elsewhere(self) -> Counter[str]:
        """Nodes of all served graphs that are not on the engine's provider, and copies between it and the host."""
        return sum((session.nodes_elsewhere() for session in self._served()), Counter())

    def _served(self) -> list[Session]:
        return [*self.sessions.values(), *self.rollouts.values()]

    def warm(self, largest: int) -> None:
        """Run once for each bucket of the batch range, so that no caller pays for allocation."""
        for batch in plan.buckets(largest):
            self.run(self._zeros(batch))
        for rollout in self.rollouts_for(largest):
            for batch in plan.buckets(rollout.max_windows):
                self.roll(rollout.graph, self._zeros(batch))

    def rollouts_for(self, max_batch_windows: int) -> list[Rollout]:
        """What the rollouts give, on a server that runs up to `max_batch_windows` at once."""
        length = self.manifest.rollout
        return [rollout_of(graph, length, max_batch_windows=max_batch_windows) for graph in self.rollouts]

    def _zeros(self, batch: int) -> Tensors:
        tensors = self.manifest.graphs[WINDOW].inputs
        sizes = {tensor.name: [batch if size == "batch" else size for size in tensor.shape] for tensor in tensors}
        return {tensor.name: np.zeros(sizes[tensor.name], tensor.dtype) for tensor in tensors}


def _filled(array: NDArray[Any], count: int) -> NDArray[Any]:
    """As many rows as `count`, the last of them repeated."""
    return np.concatenate((array, np.repeat(array[-1:], count - len(array), axis=0)))


def plan_for(manifest: Manifest, provider: Provider) -> list[PlanEntry]:
    """The artifact's plan, if it was timed on this provider; else the graph that every provider runs whole."""
    return manifest.plan if manifest.plan_provider in ("", provider.name) else plan.fixed(WINDOW)
