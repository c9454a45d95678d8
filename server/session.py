"""A graph in onnxruntime, on one provider."""

import logging
import math
from collections import Counter
from time import perf_counter

import onnxruntime as ort

from export.artifact import plan
from export.artifact.errors import ArtifactError
from export.artifact.manifest import Manifest
from server import placement
from server.buckets import TURN, Buckets
from server.buffers import HostBuffers
from server.provider import CPU, CUDA, Provider
from server.tensors import Tensors

logger = logging.getLogger("nextvalue.session")

# Up to so many rows a run's buffers are kept: what that saves is lost in a larger run, and a buffer for each of
# hundreds of batch sizes would be much memory.
MOST_BOUND = 16

# A run that takes less may be made on any thread: handing it to another would take as long, and what the thread does
# besides can wait for it.
SHORT_SECONDS = 1e-3

# Lowerings made of plain kernels. A CUDA graph can hold no control flow, and the kernels of recurrent nodes copy from
# host memory that is gone when the graph is launched again.
CAPTURABLE = ("unrolled", "half")

# How onnxruntime begins when nodes on the CPU, copies or control flow are in the way of a CUDA graph.
NOT_WHOLE = "cannot use the graph capture feature"


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


class Session:
    """One graph on one provider. On CUDA it belongs to the thread that made it."""

    def __init__(
        self, graph: bytes, provider: Provider, *, largest_batch: int = plan.LARGEST_BUCKET, capture: bool = False
    ) -> None:
        """`capture`: on CUDA, a CUDA graph for each bucket up to `largest_batch` rows; the first is made at once.

        Raises RuntimeError if onnxruntime cannot load the graph, or not on the provider asked for, or not capture it.
        """
        self._provider_name = provider.name
        self._on_device: Buckets | None = None
        if provider.name == CUDA:
            with TURN:
                self._session = _load(graph, provider, capture=capture)
                self._on_device = Buckets(self._session, "cuda", largest=largest_batch, capture=capture)
                if capture:
                    self._on_device.try_out()
        else:
            self._session = _load(graph, provider)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._most_bound = MOST_BOUND if provider.name == CPU else 0
        self._bound: dict[int, HostBuffers] = {}
        # About what a run takes, by the bits of its number of rows.
        self._seconds: dict[int, float] = {}

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by name. One thread at a time: runs share their buffers."""
        if self._on_device is not None:
            with TURN:
                return self._on_device.run(inputs)
        num_rows = len(next(iter(inputs.values())))
        started = perf_counter()
        outputs = self._run_on_host(inputs, num_rows)
        seconds, size = perf_counter() - started, num_rows.bit_length()
        # One that was held up says little.
        self._seconds[size] = min(seconds, 2 * self._seconds.get(size, seconds))
        return outputs

    def is_short(self, num_rows: int) -> bool:
        """Whether a run of so many rows may be made on any thread, whatever else that has to do."""
        return self._seconds.get(num_rows.bit_length(), math.inf) <= SHORT_SECONDS

    def _run_on_host(self, inputs: Tensors, num_rows: int) -> Tensors:
        if num_rows > self._most_bound:
            arrays = self._session.run(self._outputs, inputs)
            return {name: arrays[k] for k, name in enumerate(self._outputs)}
        bound = self._bound.get(num_rows)
        if bound is None:
            bound = self._bound[num_rows] = HostBuffers(self._session, num_rows)
        return bound.run(inputs)

    def nodes_by_provider(self) -> Counter[str]:
        """How many of the graph's nodes each provider runs, as the session itself assigned them."""
        return placement.by_provider(self._session)

    def nodes_elsewhere(self) -> Counter[str]:
        """Nodes on other providers than the session's, by provider, and copies between the two sides, by operator."""
        return placement.elsewhere(self.nodes_by_provider(), placement.copies(self._session), self._provider_name)


def _load(graph: bytes, provider: Provider, *, capture: bool = False) -> ort.InferenceSession:
    chosen = provider.options | ({"enable_cuda_graph": 1} if capture else {})
    session = ort.InferenceSession(graph, session_options(provider), providers=[(provider.name, chosen)])
    if provider.name not in session.get_providers():
        # onnxruntime warns and goes on with the CPU.
        raise RuntimeError(f"onnxruntime did not take {provider.name}; it has {session.get_providers()}")
    return session


def load_session(
    manifest: Manifest,
    name: str,
    data: bytes,
    provider: Provider,
    *,
    largest_batch: int = plan.LARGEST_BUCKET,
    cuda_graphs: bool = False,
) -> Session:
    """One graph of an artifact. Raises ArtifactError naming its file.

    With `cuda_graphs`, its runs on CUDA are captured if its lowering can be. Where that fails it runs uncaptured, with
    a warning; but where it fails for nodes or copies off CUDA, an exclusive provider refuses the graph.
    """
    graph = manifest.graphs[name]
    hint = " (--provider cuda allows no node on the CPU)" if provider.exclusive and provider.name == CUDA else ""
    if cuda_graphs and provider.name == CUDA and graph.lowering in CAPTURABLE:
        try:
            return Session(data, provider, largest_batch=largest_batch, capture=True)
        except Exception as error:  # noqa: BLE001 (onnxruntime raises classes of its own that share no base)
            if provider.exclusive and NOT_WHOLE in str(error):
                raise ArtifactError(f"{graph.file}: onnxruntime cannot load it: {error}{hint}") from None
            logger.warning("%s: runs without CUDA graphs: %s", graph.file, error)
    try:
        return Session(data, provider, largest_batch=largest_batch)
    except Exception as error:  # noqa: BLE001 (as above)
        raise ArtifactError(f"{graph.file}: onnxruntime cannot load it: {error}{hint}") from None
