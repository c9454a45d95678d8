"""fit and backtest as a user runs them: killed, resumed, repeated, refused."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from tests.training.conftest import FitCommand
from training.__main__ import main
from training.backtest import Report
from training.fit import Fit
from training.run import load_run

LONG = ("--epochs", "80", "--patience", "80")
# A machine with nothing else to do needs a tenth of this.
PATIENCE_SECONDS = 120


def lines(run: Path) -> list[bytes]:
    path = run / "metrics.jsonl"
    return path.read_bytes().splitlines() if path.exists() else []


@pytest.mark.slow
def test_a_killed_fit_resumes_to_the_weights_of_one_that_was_left_alone(
    fit_command: FitCommand, tmp_path: Path
) -> None:
    whole = fit_command(*LONG)
    command = ["--data", "counting", "--hidden", "4", "--batch-size", "256", *LONG, "--quiet"]
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-m", "training", "fit", *command, "--out", str(out)])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(lines(out)) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() != 0, "the fit ended before it was killed"
    assert 5 <= len(lines(out)) < 80

    fit_command(*LONG, "--resume", out=out)
    assert (out / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert lines(out) == lines(whole)
    assert msgspec.json.decode((out / "report.json").read_bytes()) == load_run(whole).backtest


class Killed(BaseException):
    """Ends a fit where no handler is."""


@pytest.mark.parametrize("torn", ["metrics", "checkpoint"])
def test_a_kill_between_checkpoint_and_metrics_leaves_no_epoch_out_or_twice(
    fit_command: FitCommand, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: str
) -> None:
    def die(_: object) -> None:
        raise Killed

    out = tmp_path / "torn"
    with monkeypatch.context() as patch:
        patch.setattr("training.commands.backtest_picture", die)
        patch.setattr("training.commands.loss_picture", die)
        with pytest.raises(Killed):
            fit_command(out=out)
    if torn == "metrics":
        (out / "metrics.jsonl").write_bytes(b"\n".join(lines(out)[:-1]) + b'\n{"epoch"')
    else:
        (out / "checkpoint.pt").unlink()
    fit_command("--resume", out=out)
    assert lines(out) == lines(finished_run)
    assert (out / "weights.safetensors").read_bytes() == (finished_run / "weights.safetensors").read_bytes()


def test_an_interrupt_says_how_to_go_on(
    fit_command: FitCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_epoch = Fit.run_epoch

    def interrupted(fit: Fit, after_step: Callable[[], None]) -> object:
        if len(fit.history) == 3:
            raise KeyboardInterrupt
        return run_epoch(fit, after_step)

    options = ["fit", "--data", "counting", "--hidden", "4", "--out", str(tmp_path / "run"), "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(Fit, "run_epoch", interrupted)
        assert main(options) == 130
    error = capsys.readouterr().err
    assert error == f"interrupted; go on with: python -m training {' '.join(options)} --resume\n"
    assert (tmp_path / "run" / "checkpoint.pt").exists()


@pytest.fixture
def unfinished(fit_command: FitCommand, finished_run: Path, tmp_path: Path) -> Path:
    run = tmp_path / "unfinished"
    run.mkdir()
    for name in ("config.json", "checkpoint.pt", "metrics.jsonl"):
        (run / name).write_bytes((finished_run / name).read_bytes())
    return run


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The one line on stderr of a command that ends with 1."""
    assert main([*options, "--quiet"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


SMALL = ("fit", "--data", "counting", "--hidden", "4", "--batch-size", "256", "--epochs", "12", "--out")


def test_a_finished_run_is_not_overwritten(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished_run / "weights.safetensors").read_bytes()
    assert "holds a finished run; --force replaces it" in refused(capsys, *SMALL, str(finished_run))
    assert "nothing to resume" in refused(capsys, *SMALL, str(finished_run), "--resume")
    assert (finished_run / "weights.safetensors").read_bytes() == before


def test_force_replaces_a_run(fit_command: FitCommand, unfinished: Path) -> None:
    fit_command("--force", "--seed", "3", out=unfinished)
    assert load_run(unfinished).config.seed == 3


def test_an_unfinished_fit_is_not_overwritten(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unfinished fit (--resume goes on with it)" in refused(capsys, *SMALL, str(unfinished))


def test_a_fit_is_not_resumed_with_other_options(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, *SMALL, str(unfinished), "--resume", "--seed", "1")
    assert "seed is 1; the fit to resume was started with 0" in error


def test_a_broken_checkpoint_is_named(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (unfinished / "checkpoint.pt").write_bytes(b"broken")
    assert "checkpoint.pt is broken" in refused(capsys, *SMALL, str(unfinished), "--resume")


def test_nothing_to_resume_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no fit to resume" in refused(capsys, *SMALL, str(tmp_path / "new"), "--resume")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "holds something that is no run" in refused(capsys, *SMALL, str(tmp_path), "--force")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wave with noise, a gap and a covariate."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "waves.csv"
    values = 10 + np.sin(np.arange(300) / 5) + rng.normal(0, 0.01, 300)
    rows = [f"{value:.6f},{i % 7}" for i, value in enumerate(values)]
    rows[17] = ",3"
    path.write_text("y,weekday\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def waves_run(fit_command: FitCommand, waves: Path) -> Path:
    return fit_command(
        "--data", str(waves), "--column", "y", "--features", "weekday", "--gaps", "interpolate", "--cell", "gru"
    )


def test_a_run_on_a_file_keeps_columns_gaps_and_digest(waves_run: Path) -> None:
    run = load_run(waves_run)
    assert run.config.features == ("y", "weekday")
    assert run.config.provenance.num_gaps_filled == 1
    assert run.config.provenance.sha256 is not None
    assert run.samples["window"].shape == (90, 5, 2)


def test_backtest_repeats_the_fits_own(
    waves: Path, waves_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["backtest", "--run", str(waves_run), "--data", str(waves), "--quiet"]
    assert main([*options, "--out", str(tmp_path)]) == 0
    assert msgspec.json.decode((tmp_path / "report.json").read_bytes()) == load_run(waves_run).backtest
    assert (tmp_path / "report.png").exists()
    assert "last value" in capsys.readouterr().out


def test_backtest_can_score_every_row(waves: Path, waves_run: Path, tmp_path: Path) -> None:
    options = ["backtest", "--run", str(waves_run), "--data", str(waves), "--quiet", "--all-rows"]
    assert main([*options, "--out", str(tmp_path)]) == 0
    result = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report)
    assert result.protocol.num_origins_given == 300 - 5 - 2  # Neither the gap nor the row behind it is a target.


def test_backtest_names_what_the_file_lacks(
    waves_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.csv").write_text("z\n1\n2\n")
    error = refused(capsys, "backtest", "--run", str(waves_run), "--data", str(tmp_path / "other.csv"))
    assert "--column is 'y'; " in error


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("transform", ["difference", "last-value"])
@torch.no_grad()
def test_counting_goes_on_where_it_was_fitted_and_far_beyond(
    fit_command: FitCommand, cell: str, transform: str
) -> None:
    """One prediction after the other, each appended to the window; the article was off by 0.03 to 1.37."""
    with torch.enable_grad():
        run = fit_command("--cell", cell, "--transform", transform, "--hidden", "16", "--epochs", "60")
    model = load_run(run).model
    for first in (45, 1000):
        values = [float(first + i) for i in range(5)]
        for _ in range(5):
            values.append(model(torch.tensor(values[-5:])[None, :, None]).item())
        assert values[5:] == pytest.approx([first + 5 + i for i in range(5)], abs=0.05)


@pytest.mark.slow
@torch.no_grad()
def test_counting_in_steps_finds_the_step(tmp_path: Path) -> None:
    with torch.enable_grad():
        assert main(["fit", "--data", "counting-steps", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    model = load_run(tmp_path / "run").model
    windows = torch.tensor([[10.0, 12, 14, 16, 18], [9, 8, 7, 6, 5]])[:, :, None]
    assert model(windows)[:, 0].tolist() == pytest.approx([20, 4], abs=0.05)
