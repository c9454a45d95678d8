"""The folder of a run: what is in it, and what is said where something is not."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from training.backtest import Report
from training.config import RunConfig
from training.fit import EpochMetrics
from training.run import FILES, RunError, load_run


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "copy"))


def test_a_run_holds_its_files_and_nothing_else(finished_run: Path) -> None:
    assert sorted(path.name for path in finished_run.iterdir()) == sorted(set(FILES) - {"series.json"})


def test_a_run_comes_back_as_it_was_fitted(finished_run: Path) -> None:
    run = load_run(finished_run)
    assert run.path == finished_run
    assert run.config.features == ("value",)
    assert run.config.model.hidden_size == 4
    assert not run.model.training
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}
    assert {name: (array.dtype.name, array.shape) for name, array in run.samples.items()} == {
        "window": ("float32", (256, 5, 1))
    }
    assert run.backtest["rows"][0]["name"] == "lstm"
    checkpoint = torch.load(finished_run / "checkpoint.pt", weights_only=True)
    for name, weight in run.model.state_dict().items():
        if name == "head.margin":  # calibrated once the weights are settled
            assert 0 < weight.min() < 1
            continue
        assert torch.equal(weight, checkpoint["best"][name])


def test_config_and_backtest_keep_what_they_were_made_from(finished_run: Path) -> None:
    config = msgspec.json.decode((finished_run / "config.json").read_bytes(), type=RunConfig)
    backtest = msgspec.json.decode((finished_run / "report.json").read_bytes(), type=Report)
    assert config.provenance.num_rows == 1000
    assert config.library_versions["torch"] == torch.__version__
    assert backtest.protocol.num_origins == 200
    assert [row.name for row in backtest.rows] == ["lstm", "last value", "AR(5)", "AR(48)"]


def test_metrics_are_a_line_for_each_epoch(finished_run: Path) -> None:
    lines = (finished_run / "metrics.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=EpochMetrics).epoch for line in lines] == list(range(1, 13))


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "samples.npz", "report.json"])
def test_a_missing_file_is_named(run_copy: Path, name: str) -> None:
    (run_copy / name).unlink()
    with pytest.raises(RunError, match=rf"{name} cannot be read \(No such file"):
        load_run(run_copy)


@pytest.mark.parametrize("content", [b"", b"{}", b"not what it should be", b"\xff\xfe\x00"])
@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "samples.npz", "report.json"])
def test_a_broken_file_is_named(run_copy: Path, name: str, content: bytes) -> None:
    (run_copy / name).write_bytes(content)
    with pytest.raises(RunError, match=rf"{name} is broken") as caught:
        load_run(run_copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["weights.safetensors", "samples.npz"])
def test_a_file_that_was_cut_short_is_named(run_copy: Path, name: str) -> None:
    path = run_copy / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match=rf"{name} is broken"):
        load_run(run_copy)


def test_weights_of_another_model_are_refused(run_copy: Path) -> None:
    config = (run_copy / "config.json").read_text()
    (run_copy / "config.json").write_text(config.replace('"hidden_size": 4', '"hidden_size": 5'))
    with pytest.raises(RunError, match=r"weights\.safetensors is broken or does not fit config\.json"):
        load_run(run_copy)


def test_samples_of_another_shape_are_refused(run_copy: Path) -> None:
    np.savez(run_copy / "samples.npz", window=np.zeros((3, 4, 1), dtype=np.float32))
    with pytest.raises(RunError, match=r"holds float32 \(3, 4, 1\); it must be float32 \[N, 5, 1\]"):
        load_run(run_copy)


def test_no_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="missing is not a folder"):
        load_run(tmp_path / "missing")
