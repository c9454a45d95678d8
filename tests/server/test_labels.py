"""labels.json: versions by name, more than one at a time, and which one is the default."""

import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest

from nextvalue.v1 import nextvalue_pb2 as pb
from server.labels import LabelsError, read_labels
from server.pb import open_inference_pb2 as oip
from tests.server.harness import Running, infer_request, predict_request, refusal, serving
from tests.server.oracle import Oracle
from tests.server.test_repository import flip, publish_version

WINDOWS = np.zeros((1, 5, 1), np.float32)


@pytest.fixture
def own_models(models: Path, tmp_path: Path) -> Path:
    """demo, versions 1 to 4."""
    shutil.copytree(models / "demo", tmp_path / "models" / "demo")
    for number in (2, 3, 4):
        publish_version(tmp_path / "models", number)
    return tmp_path / "models"


def label(models: Path, text: str) -> Path:
    path = models / "demo" / "labels.json"
    path.write_text(text)
    return path


async def answering(running: Running, version: str = "") -> list[str]:
    """The versions that both protocols' replies name."""
    ours = await running.next_value.Predict(predict_request("demo", WINDOWS, version=version))
    theirs = await running.inference.ModelInfer(infer_request("demo", WINDOWS, version=version))
    return [str(ours.version), theirs.model_version]


async def serving_versions(running: Running) -> list[str]:
    return list((await running.inference.ModelMetadata(oip.ModelMetadataRequest(name="demo"))).versions)


async def test_versions_side_by_side(own_models: Path, demo: Oracle) -> None:
    label(own_models, '{"default": 2, "canary": 3}')
    async with serving(own_models) as running:
        assert await serving_versions(running) == ["3", "2"]
        for version, number in (("", "2"), ("default", "2"), ("canary", "3"), ("3", "3"), ("2", "2")):
            assert await answering(running, version) == [number, number]
        assert running.requests("Predict", "OK", "demo", "3") == 2, "metrics have the number"
        assert (await running.inference.ModelReady(oip.ModelReadyRequest(name="demo", version="canary"))).ready
        reasons = {version.number: version.reason for version in running.server.repository.model("demo").versions}
        assert reasons == {4: "version 2 is the default and serves", 3: "", 2: "", 1: "version 2 is newer and serves"}
        windows = demo.random_windows(np.random.default_rng(1), 3)
        for version in ("canary", ""):
            demo.assert_right(await running.predict("demo", windows, version=version), demo.predict(windows))
        (one,) = (
            await running.inference.ModelMetadata(oip.ModelMetadataRequest(name="demo", version="canary"))
        ).versions
        assert one == "3"
        config = (await running.inference.ModelConfig(oip.ModelConfigRequest(name="demo"))).config
        assert list(config.version_policy.specific.versions) == [3, 2]


async def test_without_a_default_the_newest_answers(own_models: Path) -> None:
    label(own_models, '{"stable": 1}')
    async with serving(own_models) as running:
        assert await serving_versions(running) == ["4", "1"]
        assert await answering(running) == ["4", "4"]
        assert await answering(running, "stable") == ["1", "1"]


async def test_a_default_that_fails(own_models: Path) -> None:
    """The newest good one stands in; who asks for the label is told why."""
    label(own_models, '{"default": 2}')
    flip(own_models / "demo" / "2" / "window.onnx")
    async with serving(own_models) as running:
        assert await answering(running) == ["4", "4"]
        refused = await refusal(answering(running, "default"))
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert refused.details.startswith("version 2 of model 'demo' is not served: window.onnx: sha256")


async def test_a_label_that_nobody_has(own_models: Path) -> None:
    label(own_models, '{"default": 4, "old": 9}')
    async with serving(own_models) as running:
        refused = await refusal(answering(running, "latest"))
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert refused.details == ("version is 'latest'; model 'demo' has versions: 4, 3, 2, 1; labels: default, old")
        refused = await refusal(answering(running, "old"))
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert running.requests("Predict", "NOT_FOUND", "demo") == 2


async def test_labels_move_when_the_model_is_loaded_again(own_models: Path) -> None:
    label(own_models, '{"default": 2, "canary": 3}')
    async with serving(own_models, admin="on") as running:
        third = running.server.repository.resolve("demo", "3").engine
        label(own_models, '{"default": 3}')
        assert await answering(running) == ["2", "2"]
        await running.inference.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="demo"))
        assert await answering(running) == ["3", "3"]
        assert await serving_versions(running) == ["3"]
        assert running.server.repository.resolve("demo", "").engine is third, "it was not loaded twice"
        assert running.sample("nextvalue_queue_windows", model="demo") == 0


async def test_the_queue_of_a_model_is_that_of_all_its_versions(own_models: Path) -> None:
    label(own_models, '{"default": 2, "canary": 3}')
    async with serving(own_models) as running:
        counts = running.server.metrics._queue_counts("demo")
        assert set(counts) == {2, 3}
        counts[2], counts[3] = lambda: 4.0, lambda: 3.0
        assert running.sample("nextvalue_queue_windows", model="demo") == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "labels.json: Input data was truncated"),
        ("[]", "Expected `object`, got `array`"),
        ('{"a": "1"}', "Expected `int`, got `str`"),
        ('{"a": 0}', "'a' is 0; versions are positive"),
        ('{"1": 1}', "'1' is no label"),
        ('{"": 1}', "'' is no label"),
        ('{"Stable": 1}', "'Stable' is no label"),
        ('{"a b": 1}', "'a b' is no label"),
    ],
)
def test_what_is_no_label(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(LabelsError, match=r"^labels\.json: ") as caught:
        read_labels(tmp_path)
    assert said in str(caught.value)


def test_no_file_is_no_labels(tmp_path: Path) -> None:
    assert read_labels(tmp_path) == {}


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_bytes(b'{"\xff": 1}')
    with pytest.raises(LabelsError):
        read_labels(tmp_path)


async def test_labels_that_cannot_be_read_stop_nothing(own_models: Path, caplog: pytest.LogCaptureFixture) -> None:
    label(own_models, "{")
    async with serving(own_models) as running:
        assert await answering(running) == ["4", "4"]
        assert "no labels are taken: labels.json: " in caplog.text


async def test_labels_are_listed_with_their_versions(own_models: Path) -> None:
    label(own_models, '{"stable": 2, "default": 2, "canary": 3, "gone": 9}')
    async with serving(own_models) as running:
        (model,) = (await running.next_value.ListModels(pb.ListModelsRequest())).models
        assert model == await running.next_value.GetModel(pb.GetModelRequest(model="demo"))
        labels = {version.version: list(version.labels) for version in model.versions}
        assert labels == {4: [], 3: ["canary"], 2: ["default", "stable"], 1: []}
