"""CPU or CUDA: what was asked for, or one clear line."""

import ctypes
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnxruntime as ort
import pytest

from export.artifact.errors import ArtifactError
from export.artifact.folder import Artifact
from server.engine import load_session
from server.errors import StartupError
from server.gate import LoadOptions, load_engine
from server.provider import CPU, CUDA, PROBE, Choice, Provider, _why_no_device, choose_provider

needs_cuda = pytest.mark.skipif(_why_no_device() is not None, reason=f"no CUDA here: {_why_no_device()}")
without_cuda = pytest.mark.skipif(_why_no_device() is None, reason="this machine has CUDA")


def test_cpu_is_the_cpu() -> None:
    assert choose_provider("cpu") == Provider(CPU, {}, exclusive=False)


@without_cuda
def test_auto_is_the_cpu_where_there_is_no_cuda() -> None:
    assert choose_provider("auto").name == CPU


@without_cuda
def test_cuda_demanded_in_vain_is_one_line() -> None:
    with pytest.raises(StartupError, match=r"^provider is 'cuda' but CUDA cannot be had: ") as caught:
        choose_provider("cuda")
    assert "\n" not in str(caught.value)


def test_an_onnxruntime_without_cuda_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    assert choose_provider("auto").name == CPU
    with pytest.raises(StartupError, match="install onnxruntime-gpu"):
        choose_provider("cuda")


class FakeDriver:
    """libcuda.so.1 of a machine whose driver answers so."""

    def __init__(self, *, status: int, num_devices: int) -> None:
        self.status, self.num_devices = status, num_devices

    def cuInit(self, _: int) -> int:  # noqa: N802 (NVIDIA's name)
        return self.status

    def cuDeviceGetCount(self, count: object) -> int:  # noqa: N802 (NVIDIA's name)
        count._obj.value = self.num_devices  # type: ignore[attr-defined]  # what ctypes.byref points to
        return 0


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (FakeDriver(status=100, num_devices=1), r"cuInit gives 100"),
        (FakeDriver(status=0, num_devices=0), "no NVIDIA GPU is visible"),
    ],
)
def test_a_driver_without_a_device(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver, said: str) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    assert choose_provider("auto").name == CPU
    with pytest.raises(StartupError, match=said):
        choose_provider("cuda")


class FakeSession:
    """A session of an onnxruntime that took what was asked for, or did not."""

    providers: ClassVar[list[str]] = []

    def __init__(self, graph: bytes, providers: list[tuple[str, dict[str, object]]]) -> None:
        assert graph == PROBE
        assert [name for name, _ in providers] == [CUDA]

    def get_providers(self) -> list[str]:
        return self.providers


@pytest.fixture
def with_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver and a device, as far as can be seen without a session."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeDriver(status=0, num_devices=1))


@pytest.mark.usefixtures("with_device")
@pytest.mark.parametrize(("choice", "exclusive"), [("auto", False), ("cuda", True)])
def test_with_a_device_tf32_is_off(monkeypatch: pytest.MonkeyPatch, choice: Choice, exclusive: bool) -> None:
    monkeypatch.setattr(FakeSession, "providers", [CUDA, CPU])
    monkeypatch.setattr(ort, "InferenceSession", FakeSession)
    assert choose_provider(choice) == Provider(CUDA, {"use_tf32": 0}, exclusive=exclusive)


@pytest.mark.usefixtures("with_device")
def test_a_device_without_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver alone onnxruntime warns and takes the CPU: only a session tells."""
    monkeypatch.setattr(FakeSession, "providers", [CPU])
    monkeypatch.setattr(ort, "InferenceSession", FakeSession)
    assert choose_provider("auto").name == CPU
    with pytest.raises(StartupError, match="cannot load its CUDA libraries") as caught:
        choose_provider("cuda")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("with_device")
def test_a_session_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(ort, "InferenceSession", broken)
    assert choose_provider("auto").name == CPU
    with pytest.raises(StartupError, match="out of memory"):
        choose_provider("cuda")


@pytest.mark.onnx
def test_the_probe_is_one_sigmoid() -> None:
    """The server has no onnx, so the graph is there as bytes; made again here."""
    session = ort.InferenceSession(PROBE, providers=[CPU])
    assert session.run(None, {"x": np.zeros(1, np.float32)})[0].tolist() == [0.5]
    import onnx  # noqa: PLC0415 (hidden from the others)

    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["x"], ["y"])],
        "p",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    assert model == onnx.ModelProto.FromString(PROBE)


@without_cuda
def test_a_session_that_did_not_get_its_provider_is_refused(models: Path) -> None:
    """Left to itself, onnxruntime would warn and go on with the CPU."""
    artifact = Artifact(models / "demo" / "1")
    with pytest.raises(ArtifactError, match=r"^window\.onnx: onnxruntime cannot load it"):
        load_session(artifact.manifest, "window", artifact.read("window.onnx"), Provider(CUDA, {}, exclusive=True))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("name", ["demo", "covariates", "last"])
@pytest.mark.parametrize("choice", ["auto", "cuda"])
def test_every_node_runs_on_cuda_and_golden_matches(models: Path, name: str, choice: Choice) -> None:
    """With TF32 on, matrices would be rounded to 10 bits and leave the limit."""
    provider = choose_provider(choice)
    engine, worst = load_engine(Artifact(models / name / "1"), provider)
    assert re.fullmatch(CUDA, provider.name)
    assert set(engine.nodes_by_provider()) == {CUDA}
    assert worst.within


@pytest.mark.gpu
@needs_cuda
def test_a_node_that_cuda_does_not_know_is_caught_at_load(models: Path) -> None:
    """The article's GRU as ONNX's own node runs on the CPU alone; `covariates` is one."""
    artifact = Artifact(models / "covariates" / "1")
    with pytest.raises(ArtifactError, match=r"^graphs/fused\.onnx: onnxruntime cannot load it: .*no node on the CPU"):
        load_session(artifact.manifest, "fused", artifact.read("graphs/fused.onnx"), choose_provider("cuda"))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("choice", ["auto", "cuda"])
def test_tuned_on_cuda_only_graphs_that_run_there_are_timed(models: Path, choice: Choice) -> None:
    options = LoadOptions(tune=True, largest_batch=64)
    engine, worst = load_engine(Artifact(models / "covariates" / "1"), choose_provider(choice), options)
    assert set(engine.sessions) == {"window"}
    assert set(engine.nodes_by_provider()) == {CUDA}
    assert worst.within
