"""Which versions serve, which do not and why: damaged artifacts are refused by name, good ones serve beside them."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from prometheus_client import generate_latest

from export.artifact import folder, golden
from export.artifact import manifest as manifest_format
from export.artifact.folder import GOLDEN, WEIGHTS, Artifact
from export.artifact.manifest import MANIFEST
from nextvalue.v1 import nextvalue_pb2 as pb
from server.errors import ModelNotFound, NotReady, StartupError
from server.provider import choose_provider
from server.repository import Repository
from server.versions import Model, State, Version
from tests.server.harness import Running, infer_request, predict_request, refusal, serving
from tests.server.oracle import Oracle


@pytest.fixture
def own_models(models: Path, tmp_path: Path) -> Path:
    """A repository of one's own to damage: demo, version 1."""
    shutil.copytree(models / "demo", tmp_path / "models" / "demo")
    return tmp_path / "models"


def publish_version(models: Path, version: int, files: dict[str, bytes] | None = None, name: str = "demo") -> Path:
    """Version 1 again under another number, some files exchanged, sealed with the digests they have."""
    first = Artifact(models / name / "1")
    contents = {name: first.read(name) for name in first.manifest.files} | (files or {})
    return folder.publish(models, msgspec.structs.replace(first.manifest, version=version), contents)


def flip(path: Path) -> None:
    """One byte in the middle becomes another."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x01
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


FILES = ("window.onnx", "step.onnx", GOLDEN, WEIGHTS, MANIFEST)


async def expect_first_serves(running: Running, demo: Oracle, said: str) -> None:
    """Version 1 answers, version 2 is listed with its reason, and the page knows version 1 alone."""
    (model,) = (await running.next_value.ListModels(pb.ListModelsRequest())).models
    second, first = model.versions
    assert (first.version, first.state, first.reason) == (1, pb.ModelVersion.STATE_SERVING, "")
    assert (second.version, second.state) == (2, pb.ModelVersion.STATE_FAILED)
    assert said in second.reason
    assert model.default_version == 1

    windows = demo.random_windows(np.random.default_rng(3), 4)
    demo.assert_right(await running.predict("demo", windows), demo.predict(windows))
    for call in (
        running.next_value.Predict(predict_request("demo", windows, version="2")),
        running.inference.ModelInfer(infer_request("demo", windows, version="2")),
    ):
        refused = await refusal(call)
        assert refused.code.name == "NOT_FOUND"
        assert f"version 2 of model 'demo' is not served: {second.reason}" in refused.details

    assert await running.health_status() == "SERVING"
    page = generate_latest(running.server.metrics.registry).decode()
    assert 'version="1"' in page
    assert 'version="2"' not in page


@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
@pytest.mark.parametrize("name", FILES)
async def test_a_damaged_file_is_named(
    own_models: Path, demo: Oracle, name: str, damage: Callable[[Path], None]
) -> None:
    second = publish_version(own_models, 2)
    damage(second / name)
    async with serving(own_models) as running:
        await expect_first_serves(running, demo, f"{name}: ")


def spoiled_golden(models: Path, tensor: str, off_by: float, name: str = "demo") -> bytes:
    with np.load(io.BytesIO((models / name / "1" / GOLDEN).read_bytes())) as archive:
        arrays = dict(archive)
    arrays[tensor][40] += off_by
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize("tensor", ["window/next", "step/next", "step/final_h.0", "step/final_last"])
async def test_a_wrong_golden_with_the_right_digest_fails_the_gate(own_models: Path, demo: Oracle, tensor: str) -> None:
    """Sealed anew, so that only the replay can find it."""
    publish_version(own_models, 2, {GOLDEN: spoiled_golden(own_models, tensor, 0.01)})
    graph, _, output = tensor.partition("/")
    async with serving(own_models) as running:
        await expect_first_serves(
            running, demo, f"golden.npz: {graph} graph ({graph}.onnx), output '{output}', batch 64"
        )


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("demand", "window/next"),
        ("demand", "window/lower"),
        ("demand", "window/unit"),
        ("demand", "step/upper"),
        ("windowed", "window/upper"),
    ],
)
async def test_every_output_is_replayed(models: Path, tmp_path: Path, name: str, tensor: str) -> None:
    """Intervals and units as well, each row in its own unit."""
    shutil.copytree(models / name, tmp_path / "models" / name)
    publish_version(tmp_path / "models", 2, {GOLDEN: spoiled_golden(models, tensor, 0.1, name)}, name)
    graph, _, output = tensor.partition("/")
    async with serving(tmp_path / "models") as running:
        versions = running.server.repository.model(name).versions
        assert [version.state for version in versions] == [State.FAILED, State.SERVING]
        assert f"golden.npz: {graph} graph ({graph}.onnx), output '{output}', batch 64" in versions[0].reason


async def test_a_golden_within_the_limit_passes(own_models: Path) -> None:
    publish_version(own_models, 2, {GOLDEN: spoiled_golden(own_models, "window/next", 1e-7)})
    async with serving(own_models) as running:
        assert running.server.repository.model("demo").default() is running.server.repository.model("demo").versions[0]


async def test_another_graph_with_the_right_digest_fails_the_gate(models: Path, own_models: Path, demo: Oracle) -> None:
    """A graph of the right shape that computes something else."""
    graph = (models / "demo" / "1" / "window.onnx").read_bytes()
    scale, mean = demo._weights["transform.target_scale"], demo._weights["transform.target_mean"]
    weights = (demo._weights["head.point.bias"] * scale + mean).astype("<f4").tobytes()
    assert graph.count(weights) == 1
    publish_version(own_models, 2, {"window.onnx": graph.replace(weights, np.float32(0.5).tobytes())})
    async with serving(own_models) as running:
        await expect_first_serves(running, demo, "golden.npz: window graph (window.onnx), output 'next'")


async def test_a_graph_that_is_none_is_named(own_models: Path, demo: Oracle) -> None:
    publish_version(own_models, 2, {"step.onnx": b"not a graph"})
    async with serving(own_models) as running:
        await expect_first_serves(running, demo, "step.onnx: onnxruntime cannot load it")


def test_pickled_arrays_are_refused(own_models: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, anything=np.array([{"a": 1}], object))
    path = publish_version(own_models, 2, {GOLDEN: buffer.getvalue()})
    with pytest.raises(ValueError, match=r"^golden\.npz: "):
        golden.decode((path / GOLDEN).read_bytes(), Artifact(path).manifest)


@pytest.mark.parametrize(
    ("field", "value"),
    [("schema_version", 2), ("version", 0), ("window", "5"), ("features", []), ("surprise", 1)],
)
async def test_a_manifest_that_says_something_odd_is_named(
    own_models: Path, demo: Oracle, field: str, value: object
) -> None:
    path = publish_version(own_models, 2) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}, sort_keys=True, indent=2) + "\n")
    async with serving(own_models) as running:
        await expect_first_serves(running, demo, "manifest.json: ")


async def test_a_folder_of_another_number_is_refused(own_models: Path, demo: Oracle) -> None:
    shutil.copytree(own_models / "demo" / "1", own_models / "demo" / "2")
    async with serving(own_models) as running:
        await expect_first_serves(running, demo, "manifest.json: version is '1' but the folder says '2'")


async def test_only_bad_versions_is_not_ready_but_alive(own_models: Path) -> None:
    flip(own_models / "demo" / "1" / "window.onnx")
    async with serving(own_models) as running:
        assert await running.health_status() == "NOT_SERVING"
        assert await running.health_status("readiness") == "NOT_SERVING"
        assert await running.health_status("liveness") == "SERVING"
        (model,) = (await running.next_value.ListModels(pb.ListModelsRequest())).models
        assert model.default_version == 0
        assert model.versions[0].reason.startswith("window.onnx: sha256 is")
        refused = await refusal(running.predict("demo", np.zeros((1, 5, 1), np.float32)))
        assert refused.code.name == "NOT_FOUND"
        assert "version 1 of model 'demo' is not served: window.onnx: sha256 is" in refused.details


async def test_a_bad_model_does_not_stop_the_others(models: Path, own_models: Path, last: Oracle) -> None:
    flip(own_models / "demo" / "1" / MANIFEST)
    shutil.copytree(models / "last", own_models / "last")
    async with serving(own_models) as running:
        windows = last.random_windows(np.random.default_rng(3), 4)
        last.assert_right(await running.predict("last", windows), last.predict(windows))
        assert await running.health_status() == "SERVING"


async def test_the_newest_good_version_serves_and_older_ones_stand_by(own_models: Path) -> None:
    publish_version(own_models, 2)
    publish_version(own_models, 10)
    flip(publish_version(own_models, 11) / WEIGHTS)
    async with serving(own_models) as running:
        (model,) = (await running.next_value.ListModels(pb.ListModelsRequest())).models
        assert [version.version for version in model.versions] == [11, 10, 2, 1]
        states = [pb.ModelVersion.State.Name(version.state) for version in model.versions]
        assert states == ["STATE_FAILED", "STATE_SERVING", "STATE_STANDBY", "STATE_STANDBY"]
        assert model.default_version == 10
        assert model.versions[2].reason == "version 10 is newer and serves"
        reply = await running.next_value.Predict(predict_request("demo", np.zeros((1, 5, 1), np.float32)))
        assert reply.version == 10


async def test_what_is_no_model_is_passed_over(own_models: Path, caplog: pytest.LogCaptureFixture) -> None:
    (own_models / "README.md").write_text("not a model")
    (own_models / ".cache").mkdir()
    (own_models / "not a name").mkdir()
    (own_models / "hollow").mkdir()
    for name in ("latest", "01", "0", ".2-tmp", "²"):
        (own_models / "demo" / name).mkdir()
    async with serving(own_models) as running:
        models = (await running.next_value.ListModels(pb.ListModelsRequest())).models
        assert [(model.name, [version.version for version in model.versions]) for model in models] == [
            ("demo", [1]),
            ("hollow", []),
        ]
        assert "not a name" in caplog.text
        refused = await refusal(running.predict("hollow", np.zeros((1, 5, 1), np.float32)))
        assert refused.details == "model 'hollow' has no versions"


def test_no_folder_is_a_startup_error(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="there is no such folder"):
        Repository(tmp_path / "none", choose_provider("cpu"))


def make_repository(tmp_path: Path, *versions: Version) -> Repository:
    repository = Repository(tmp_path, choose_provider("cpu"))
    repository._models = {"m": Model("m", list(versions))}
    return repository


def test_an_older_version_that_is_still_loading_is_worth_waiting_for(tmp_path: Path) -> None:
    """The newest failed its gate; NOT_FOUND would be final, and untrue a moment later."""
    repository = make_repository(tmp_path, Version("m", 2, State.FAILED, "broken"), Version("m", 1, State.LOADING))
    with pytest.raises(NotReady, match="version 1 of model 'm' is still being loaded"):
        repository.resolve("m", "")
    with pytest.raises(ModelNotFound, match="version 2 of model 'm' is not served: broken"):
        repository.resolve("m", "2")


def test_ready_needs_the_scan_and_a_model(tmp_path: Path) -> None:
    repository = make_repository(tmp_path, Version("m", 1, State.SERVING))
    assert not repository.ready
    repository.scanned = True
    assert repository.ready
    repository._models["m"].versions[0].state = State.FAILED
    assert not repository.ready


def test_the_manifest_helper_reseals(own_models: Path) -> None:
    """A re-sealed artifact is whole: what the gate refuses above, it refuses for its numbers."""
    path = publish_version(own_models, 2, {GOLDEN: spoiled_golden(own_models, "window/next", 0.01)})
    Artifact(path).verify()
    assert manifest_format.decode((path / MANIFEST).read_bytes()).version == 2
