"""Which graphs are loaded to be captured, and what becomes of one that cannot be; without a GPU."""

from collections import Counter
from pathlib import Path

import pytest

from export.artifact.errors import ArtifactError
from export.artifact.folder import Artifact
from server import placement, session
from server.gate import load_engine
from server.provider import CUDA, Provider, choose_provider
from server.session import NOT_WHOLE, load_session, session_options

GPU = Provider(CUDA, {"use_tf32": 0}, exclusive=False)
ONLY_GPU = Provider(CUDA, {"use_tf32": 0}, exclusive=True)


class Loads:
    """Stands in for Session: fails where it should, and remembers whether it was to capture."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, failing: str = "") -> None:
        self.captures: list[bool] = []
        self._failing = failing
        monkeypatch.setattr(session, "Session", self.load)

    def load(self, _graph: bytes, _provider: Provider, *, largest_batch: int, capture: bool = False) -> object:
        assert largest_batch == 64
        self.captures.append(capture)
        if capture and self._failing:
            raise RuntimeError(self._failing)
        return object()


def _load(models: Path, name: str, provider: Provider, *, cuda_graphs: bool = True) -> None:
    artifact = Artifact(models / "demo" / "1")
    data = artifact.read(artifact.manifest.graphs[name].file)
    load_session(artifact.manifest, name, data, provider, largest_batch=64, cuda_graphs=cuda_graphs)


@pytest.mark.parametrize(
    ("name", "provider", "expected"),
    [
        ("window", GPU, True),
        ("window", ONLY_GPU, True),
        ("window", choose_provider("cpu"), False),
        ("fused", GPU, False),
        ("primed", GPU, False),
        ("step", GPU, False),
    ],
)
def test_unrolled_graphs_alone_are_captured_and_on_cuda_alone(
    models: Path, monkeypatch: pytest.MonkeyPatch, name: str, provider: Provider, expected: bool
) -> None:
    loads = Loads(monkeypatch)
    _load(models, name, provider)
    _load(models, name, provider, cuda_graphs=False)
    assert loads.captures == [expected, False]


@pytest.mark.parametrize("provider", [GPU, ONLY_GPU])
def test_what_cannot_be_captured_runs_uncaptured_and_says_so(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, provider: Provider
) -> None:
    loads = Loads(monkeypatch, failing="capture failed: 900")
    _load(models, "window", provider)
    assert loads.captures == [True, False]
    assert "window.onnx: runs without CUDA graphs: capture failed: 900" in caplog.text


def test_nodes_or_copies_off_cuda_that_hinder_a_capture_are_an_error_under_cuda_alone(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = Loads(monkeypatch, failing=f"This session {NOT_WHOLE} as requested by the user")
    with pytest.raises(ArtifactError, match=r"^window\.onnx: onnxruntime cannot load it: .*no node on the CPU"):
        _load(models, "window", ONLY_GPU)
    _load(models, "window", GPU)
    assert loads.captures == [True, True, False]


class Node:
    def __init__(self, op_type: str) -> None:
        self.op_type = op_type


class Part:
    """Nodes as onnxruntime says where they were put."""

    def __init__(self, ep_name: str, *op_types: str) -> None:
        self.ep_name = ep_name
        self._nodes = [Node(op_type) for op_type in op_types]

    def get_nodes(self) -> list[Node]:
        return self._nodes


class Assigned:
    """An onnxruntime session whose nodes are where they are said to be."""

    def __init__(self, *parts: Part) -> None:
        self._parts = parts

    def get_provider_graph_assignment_info(self) -> tuple[Part, ...]:
        return self._parts


@pytest.mark.parametrize(
    ("parts", "found", "shown"),
    [
        ([Part(CUDA, "Gemm", "Tanh")], {}, ""),
        ([Part(CUDA, "Gemm"), Part("Else", "GRU", "Slice")], {"Else": 2}, "2 nodes on Else"),
        ([Part(CUDA, "MemcpyFromHost", "Gemm")], {"MemcpyFromHost": 1}, "1 MemcpyFromHost nodes"),
        (
            [Part(CUDA, "MemcpyToHost", "MemcpyFromHost", "MemcpyToHost"), Part("Else", "GRU")],
            {"Else": 1, "MemcpyFromHost": 1, "MemcpyToHost": 2},
            "1 nodes on Else, 1 MemcpyFromHost nodes, 2 MemcpyToHost nodes",
        ),
    ],
)
def test_nodes_elsewhere_and_copies_are_told_apart(parts: list[Part], found: dict[str, int], shown: str) -> None:
    assigned = Assigned(*parts)
    counts = placement.elsewhere(placement.by_provider(assigned), placement.copies(assigned), CUDA)
    assert counts == found
    assert placement.shown(counts) == shown


def test_a_copy_within_a_run_is_warned_of_and_refused_where_the_provider_is_exclusive(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(placement, "copies", lambda _: Counter({"MemcpyToHost": 1}))
    artifact, cpu = Artifact(models / "demo" / "1"), choose_provider("cpu")
    engine, _ = load_engine(artifact, cpu)
    message = "window.onnx: not all of it runs on CPUExecutionProvider: 1 MemcpyToHost nodes"
    assert message in caplog.text
    assert engine.nodes_elsewhere() == {"MemcpyToHost": 1}
    monkeypatch.setattr(session, "session_options", lambda _: session_options(cpu))
    with pytest.raises(ArtifactError, match=f"^{message}$"):
        load_engine(artifact, Provider(cpu.name, {}, exclusive=True))
