"""An artifact's graphs in onnxruntime."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export.artifact import plan
from export.artifact.errors import ArtifactError
from export.artifact.manifest import Manifest, PlanEntry
from server.provider import CPU, CUDA, Provider
from server.rollout import Rollout, rollout_of
from server.tensors import WINDOW, Tensors


def session_options(provider: Provider) -> ort.SessionOptions:
    """How every graph is loaded."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Measured on models of this size: a second thread costs more in hand-over than it computes.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # A state that fades towards zero would else make every product with it slow.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    # Otherwise assignment to providers cannot be asked for afterwards.
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if provider.exclusive:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


# Up to so many rows a run's buffers are kept: what that saves is lost in a larger run, and a buffer for each of
# hundreds of batch sizes would be much memory.
MOST_BOUND = 16


class Session:
    """One graph on one provider."""

    def __init__(self, graph: bytes, provider: Provider) -> None:
        """Raises RuntimeError if onnxruntime cannot load the graph, or not on the provider asked for."""
        options = session_options(provider)
        self._session = ort.InferenceSession(graph, options, providers=[(provider.name, provider.options)])
        if provider.name not in self._session.get_providers():
            # onnxruntime warns and goes on with the CPU.
            raise RuntimeError(f"onnxruntime did not take {provider.name}; it has {self._session.get_providers()}")
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._most_bound = MOST_BOUND if provider.name == CPU else 0
        self._bound: dict[int, _Bound] = {}

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by name. One thread at a time: small batches share their buffers."""
        num_rows = len(next(iter(inputs.values())))
        if num_rows > self._most_bound:
            arrays = self._session.run(self._outputs, inputs)
            return {name: arrays[k] for k, name in enumerate(self._outputs)}
        bound = self._bound.get(num_rows)
        if bound is None:
            bound = self._bound[num_rows] = _Bound(self._session, num_rows)
        return bound.run(inputs)

    def nodes_by_provider(self) -> Counter[str]:
        """How many of the graph's nodes each provider runs, as the session itself assigned them."""
        counts: Counter[str] = Counter()
        for part in self._session.get_provider_graph_assignment_info():
            counts[part.ep_name] += len(part.get_nodes())
        return counts


class _Bound:
    """Inputs and outputs of one batch size in memory of their own, which onnxruntime is told of once."""

    def __init__(self, session: ort.InferenceSession, num_rows: int) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._inputs = {each.name: _empty(each, num_rows) for each in session.get_inputs()}
        self._outputs = {each.name: _empty(each, num_rows) for each in session.get_outputs()}
        for bind, arrays in ((self._binding.bind_input, self._inputs), (self._binding.bind_output, self._outputs)):
            for name, array in arrays.items():
                bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by name, copied out of the shared memory."""
        for name, array in self._inputs.items():
            given = inputs[name]
            if given.shape != array.shape:  # which copyto would stretch
                raise ValueError(f"{name} is {list(given.shape)}; it must be {list(array.shape)}")
            np.copyto(array, given, casting="no")
        self._session.run_with_iobinding(self._binding)
        return {name: array.copy() for name, array in self._outputs.items()}


def _empty(tensor: ort.NodeArg, num_rows: int) -> NDArray[Any]:
    """Memory for a tensor whose one open dimension is the batch's."""
    shape = [num_rows if isinstance(size, str) else size for size in tensor.shape]
    return np.empty(shape, {"tensor(float)": np.float32, "tensor(int64)": np.int64}[tensor.type])


class Engine:
    """Runs windows through the graph that the plan chooses for their number."""

    def __init__(
        self,
        manifest: Manifest,
        sessions: Mapping[str, Session],
        provider: Provider,
        entries: list[PlanEntry],
        *,
        fewest_windows: int = 1,
        rollouts: Mapping[str, Session] | None = None,
    ) -> None:
        """`sessions` hold the graphs that the plan `entries` choose among, and those to be timed; `rollouts` others.

        A run of less than `fewest_windows` is filled up with copies of its last window.
        """
        self.manifest = manifest
        self.provider = provider
        self._fewest_windows = fewest_windows
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

    def run(self, inputs: Tensors) -> Tensors:
        """What follows each window, in raw units."""
        graph = self._graphs[bisect_left(self._bounds, len(inputs[WINDOW]))]
        return self._run(self.sessions[graph], inputs)

    def roll(self, graph: str, inputs: Tensors) -> Tensors:
        """What follows each window, `next` [B, rollout], by one of the rollouts."""
        return self._run(self.rollouts[graph], inputs)

    def _run(self, session: Session, inputs: Tensors) -> Tensors:
        num_windows = len(inputs[WINDOW])
        if num_windows >= self._fewest_windows:
            return session.run(inputs)
        filled = session.run({name: _filled(array, self._fewest_windows) for name, array in inputs.items()})
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
        served = (*self.sessions.values(), *self.rollouts.values())
        return sum((session.nodes_by_provider() for session in served), Counter())

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


def load_session(manifest: Manifest, name: str, data: bytes, provider: Provider) -> Session:
    """One graph of an artifact. Raises ArtifactError naming its file."""
    try:
        return Session(data, provider)
    except Exception as error:  # noqa: BLE001 (onnxruntime raises classes of its own that share no base)
        hint = " (--provider cuda allows no node on the CPU)" if provider.exclusive and provider.name == CUDA else ""
        raise ArtifactError(f"{manifest.graphs[name].file}: onnxruntime cannot load it: {error}{hint}") from None
