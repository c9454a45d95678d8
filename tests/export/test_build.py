"""What export publishes: an artifact that is whole, says what it is, and holds the model it was made of."""

import dataclasses
import io
import json
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from export import build, gate
from export.artifact import golden
from export.artifact.errors import ArtifactError
from export.artifact.folder import GOLDEN, WEIGHTS, Artifact
from export.artifact.limits import Deviation
from export.artifact.manifest import MANIFEST, Graph
from export.build import LONGEST_ROLLOUT, ROLLOUT, Published, export
from export.errors import ExportError
from export.evaluate import Reference
from export.gate import Session
from tests.export.conftest import dressed
from tests.export.models import assert_within_limit, config
from training.run import Run

FILES = {
    "graphs/carry.onnx",
    "graphs/columns.onnx",
    "graphs/fused.onnx",
    "graphs/primed.onnx",
    "graphs/sliding.onnx",
    "golden.npz",
    "manifest.json",
    "report.json",
    "report.png",
    "step.onnx",
    "weights.safetensors",
    "window.onnx",
}


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_artifact_is_whole(run: Run, published: Published) -> None:
    artifact = Artifact(published.folder)
    artifact.verify()
    assert set(_snapshot(published.folder)) == FILES
    assert set(artifact.manifest.files) == FILES - {MANIFEST}
    assert json.loads(artifact.read("report.json")) == run.backtest
    assert artifact.read("report.png").startswith(b"\x89PNG")


def test_manifest_says_what_it_is(run: Run, published: Published) -> None:
    manifest = Artifact(published.folder).manifest
    shape = run.config.model
    assert (manifest.name, manifest.version) == ("counting", 1)
    assert (manifest.cell, manifest.window, manifest.hidden_size, manifest.num_layers) == ("lstm", 5, 8, 1)
    assert manifest.features == list(run.config.features)
    assert manifest.transform.kind == shape.transform == "difference"
    assert manifest.transform.scale == float(run.model.transform.target_scale)
    assert (manifest.opset, manifest.ir_version) == (20, 9)
    assert manifest.direct_horizon == 1
    assert set(manifest.graphs) == {"window", "columns", "fused", "primed", "step", "sliding", "carry"}
    assert (manifest.rollout, published.rollout, published.not_rolled) == (ROLLOUT, ROLLOUT, {})
    assert {entry.graph for entry in published.plan} <= {"window", "columns", "fused", "primed"}
    assert (manifest.plan, manifest.plan_provider) == (published.plan, "CPUExecutionProvider")
    assert manifest.not_steppable == ""
    assert manifest.gate.batches == [1, 7, 64]
    assert manifest.gate.worst_abs_error == published.worst.abs_error
    assert 0 <= manifest.gate.worst_share_of_limit == published.worst.share_of_limit <= 1
    assert manifest.backtest == run.backtest
    assert manifest.fitted_on["data"]["source"] == "counting"
    assert manifest.fitted_on["seed"] == run.config.seed
    assert manifest.libraries["torch"] == version("torch")
    assert {name.partition("-")[0] for name in manifest.libraries} >= {"python", "onnx", "onnxruntime", "numpy"}


def test_manifest_describes_the_inputs_and_outputs_of_each_graph(repository: Path) -> None:
    def described(values: list[onnx.ValueInfoProto]) -> list[tuple[str, str, list[int | str]]]:
        return [
            (
                value.name,
                onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
            )
            for value in values
        ]

    def stated(graph: Graph, side: str) -> list[tuple[str, str, list[int | str]]]:
        return [(tensor.name, tensor.dtype, list(tensor.shape)) for tensor in getattr(graph, side)]

    for name in ("counting", "last"):
        artifact = Artifact(repository / name / "1")
        for graph in artifact.manifest.graphs.values():
            proto = onnx.load_from_string(artifact.read(graph.file)).graph
            assert described(list(proto.input)) == stated(graph, "inputs")
            assert described(list(proto.output)) == stated(graph, "outputs")


def test_model_that_cannot_be_stepped_says_why(repository: Path) -> None:
    artifact = Artifact(repository / "last" / "1")
    assert "step" not in artifact.manifest.graphs
    assert "step.onnx" not in _snapshot(artifact.folder)
    assert artifact.manifest.not_steppable == "transform 'last-value' needs the whole window"
    assert set(golden.decode(artifact.read(GOLDEN), artifact.manifest)) == {"window", "columns", "fused", "primed"}


@pytest.mark.parametrize("length", [-1, 1, LONGEST_ROLLOUT + 1])
def test_a_rollout_has_bounds(run: Run, models: Path, length: int) -> None:
    with pytest.raises(ExportError, match=rf"^rollout is {length}; it must be 0, or from 2 to {LONGEST_ROLLOUT}$"):
        export(run, models=models, name="demo", rollout=length)
    assert not models.exists()


def test_without_a_rollout(run: Run, models: Path) -> None:
    manifest = Artifact(export(run, models=models, name="demo", rollout=0).folder).manifest
    assert manifest.rollout == 0
    assert not {"sliding", "carry"} & set(manifest.graphs)


def test_a_rollout_that_leaves_its_limit_is_left_out(run: Run, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model still serves value by value."""
    honest = gate.check

    def check(*arguments: Any, only: list[str]) -> Deviation:
        if only == ["sliding"]:
            raise ExportError("ill-conditioned: it grows")
        return honest(*arguments, only=only)

    monkeypatch.setattr(gate, "check", check)
    published = export(run, models=models, name="demo")
    assert published.not_rolled == {"sliding": "ill-conditioned: it grows"}
    artifact = Artifact(published.folder)
    assert {"sliding", "carry"} & set(artifact.manifest.graphs) == {"carry"}
    assert "graphs/sliding.onnx" not in _snapshot(published.folder)
    assert set(golden.decode(artifact.read(GOLDEN), artifact.manifest)) == set(artifact.manifest.graphs)


def test_weights_are_the_model_s_own(run: Run, models: Path) -> None:
    """Of the model that was lowered, not of the file that lay in the run's folder by the time it was published."""
    other = dressed(run, config("gru", num_layers=2))
    published = export(other, models=models, name="demo")
    weights = safetensors.numpy.load(Artifact(published.folder).read(WEIGHTS))
    expected = other.model.state_dict()
    assert set(weights) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(weights[name], value.numpy())


def test_golden_holds_windows_of_the_series_and_what_the_reference_makes_of_them(
    run: Run, published: Published
) -> None:
    artifact = Artifact(published.folder)
    cases = golden.decode(artifact.read(GOLDEN), artifact.manifest)
    windows = cases["window"].inputs["window"]
    assert windows.shape == (64, 5, 1)
    assert {row.tobytes() for row in windows} <= {row.tobytes() for row in run.samples["window"]}
    np.testing.assert_array_equal(cases["window"].outputs["next"], Reference(run.model).window(windows))
    np.testing.assert_array_equal(cases["step"].inputs["value"], windows[:, -1])
    # The state is rounded to float32 on its way into the step graph, so both ways agree but for that.
    assert_within_limit(
        cases["step"].outputs["next"], cases["window"].outputs["next"], artifact.manifest.transform.scale
    )


def test_golden_replays_on_the_published_graphs(repository: Path) -> None:
    for name in ("counting", "last"):
        artifact = Artifact(repository / name / "1")
        session = Session({key: artifact.read(graph.file) for key, graph in artifact.manifest.graphs.items()})
        cases = golden.decode(artifact.read(GOLDEN), artifact.manifest)
        assert golden.replay(artifact.manifest, cases, session.run).within


def test_golden_with_a_wrong_value_is_refused(repository: Path) -> None:
    artifact = Artifact(repository / "counting" / "1")
    session = Session({key: artifact.read(graph.file) for key, graph in artifact.manifest.graphs.items()})
    cases = golden.decode(artifact.read(GOLDEN), artifact.manifest)
    cases["window"].outputs["next"][40] += 2e-5 * artifact.manifest.transform.scale + 1e-3
    with pytest.raises(ArtifactError, match=r"^golden\.npz: columns graph .* batch 64: off by 0\.001"):
        golden.replay(artifact.manifest, cases, session.run)


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_any_changed_byte_of_a_real_artifact_is_refused(repository: Path, data: st.DataObject) -> None:
    folder = repository / "counting" / "1"
    name = data.draw(st.sampled_from(sorted(FILES)))
    path = folder / name
    before = path.read_bytes()
    altered = bytearray(before)
    altered[data.draw(st.integers(0, len(before) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(altered)
    try:
        with pytest.raises(ArtifactError, match=rf"^{name}: "):
            Artifact(folder).verify()
    finally:
        path.write_bytes(before)


class TestNames:
    @pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "/abs", ".hidden", "a b", "a\n", "é", "a" * 129])
    def test_bad_name_is_refused(self, run: Run, models: Path, name: str) -> None:
        with pytest.raises(ExportError, match=r"^name is .*; use letters"):
            export(run, models=models, name=name)
        assert not models.exists()

    @pytest.mark.parametrize("number", [0, -1, 2**63, 10**300])
    def test_bad_version_is_refused(self, run: Run, models: Path, number: int) -> None:
        with pytest.raises(ExportError, match=rf"^version is {number}; it must be from 1 to"):
            export(run, models=models, name="demo", version=number)
        assert not models.exists()

    def test_version_is_one_more_than_the_newest(self, run: Run, models: Path) -> None:
        assert export(run, models=models, name="demo").version == 1
        assert export(run, models=models, name="demo", version=7).version == 7
        (models / "demo" / ".9-staging").mkdir()
        (models / "demo" / "latest").mkdir()
        assert export(run, models=models, name="demo").version == 8
        assert export(run, models=models, name="other").version == 1

    def test_hole_in_the_versions_can_be_filled_by_name(self, run: Run, models: Path) -> None:
        export(run, models=models, name="demo", version=3)
        assert export(run, models=models, name="demo", version=1).folder == models / "demo" / "1"

    def test_existing_version_stays_as_it_was(self, run: Run, models: Path, published: Published) -> None:
        before = _snapshot(published.folder)
        with pytest.raises(ArtifactError, match="1: exists; a published version is never changed"):
            export(dressed(run, config("gru")), models=models, name="counting", version=1)
        assert _snapshot(published.folder) == before
        assert [path.name for path in published.folder.parent.iterdir()] == ["1"]


def test_run_without_its_picture_is_refused(run: Run, run_folder: Path, models: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    (copy / "report.png").unlink()
    with pytest.raises(ExportError, match=r"report\.png: No such file or directory; is the run finished\?"):
        export(dataclasses.replace(run, path=copy), models=models, name="demo")
    assert not models.exists()


def test_plain_onnxruntime_is_named_where_there_is_no_gpu_package(
    run: Run, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(name: str) -> str:
        if name == "onnxruntime-gpu":
            raise PackageNotFoundError(name)
        return "1.31.0" if name == "onnxruntime" else version(name)

    monkeypatch.setattr(build, "library_version", installed)
    libraries = Artifact(export(run, models=models, name="demo").folder).manifest.libraries
    assert libraries["onnxruntime"] == "1.31.0"
    assert "onnxruntime-gpu" not in libraries


def test_same_run_gives_the_same_graphs_and_golden(run: Run, models: Path) -> None:
    first, second = (Artifact(export(run, models=models, name="demo").folder) for _ in range(2))
    for name in ("window.onnx", "step.onnx", WEIGHTS, "report.json", "report.png"):
        assert first.read(name) == second.read(name)
    with np.load(io.BytesIO(first.read(GOLDEN))) as one, np.load(io.BytesIO(second.read(GOLDEN))) as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])
