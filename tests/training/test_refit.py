"""A run fitted again on its validation part too."""

import copy
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from tests.training.conftest import FitCommand
from training.__main__ import main
from training.backtest import Report
from training.build import new_model
from training.config import FitOptions
from training.data import DataOptions, Parts, WindowSet, load, split_windows
from training.data.runs import Runs
from training.fit import EpochMetrics, Fit
from training.run import Run, best_epoch, load_run

PLAIN = ("--data", "counting")


def refit(run: Path, out: Path, *options: str) -> Path:
    assert main(["refit", "--run", str(run), *PLAIN, "--out", str(out), "--quiet", *options]) == 0
    return out


def parts_of(run: Run) -> Parts:
    with load(DataOptions(source="counting")) as dataset:
        return split_windows(dataset, run.config.split, run.config.model.window)


@pytest.fixture(scope="module", params=["conformal", "normalized", "quantile"])
def first(request: pytest.FixtureRequest, fit_command: FitCommand) -> Path:
    """A run that was stopped early, with intervals of each kind."""
    return fit_command("--intervals", request.param, "--epochs", "30", "--patience", "3", "--average", "0.5")


@pytest.fixture(scope="module")
def again(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return refit(first, tmp_path_factory.mktemp("refit") / "run")


def test_it_is_the_same_fit_on_both_parts(first: Path, again: Path) -> None:
    run, new = load_run(first), load_run(again)
    assert new.config.fit == msgspec.structs.replace(run.config.fit, refit_epochs=best_epoch(first))
    parts = parts_of(run)
    both = parts._replace(fit=parts.fit.joined(parts.validation))
    model = new_model(run.config.model, both.fit, seed=run.config.seed, scales_of=run.model)
    fit = Fit(model, both, new.config.fit, seed=run.config.seed)
    while not fit.is_finished:
        fit.run_epoch()
    fit.restore_best()
    expected = model.state_dict() | {
        name: value for name, value in run.model.state_dict().items() if "margin" in name or "usual" in name
    }
    found = new.model.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_intervals_and_baselines_are_the_first_runs(first: Path, again: Path) -> None:
    run, new = load_run(first), load_run(again)
    assert torch.equal(new.model.head.margin, run.model.head.margin)
    assert torch.equal(new.model.transform.target_scale, run.model.transform.target_scale)
    before, after = (msgspec.convert(each.backtest, Report) for each in (run, new))
    assert after.baselines == before.baselines
    assert after.rows[1:] == before.rows[1:]


@pytest.mark.parametrize("epochs", [1, 12])
def test_epochs_may_be_chosen(finished_run: Path, tmp_path: Path, epochs: int) -> None:
    new = refit(finished_run, tmp_path / "run", "--epochs", str(epochs))
    history = msgspec.json.Decoder(EpochMetrics).decode_lines((new / "metrics.jsonl").read_bytes())
    assert [metrics.epoch for metrics in history] == list(range(1, epochs + 1))
    assert best_epoch(new) == epochs


def test_the_last_weights_are_kept_however_validation_does(finished_run: Path) -> None:
    run = load_run(finished_run)
    parts = parts_of(run)
    options = FitOptions(epochs=6, refit_epochs=5, patience=1, average=0.9, learning_rate=0.3)
    fit = Fit(new_model(run.config.model, parts.fit, seed=0), parts, options, seed=0)
    while not fit.is_finished:
        fit.run_epoch()
    assert len(fit.history) == 5
    # The average is kept, as it is of a fit that stops early.
    fit._averaged.swap()
    averaged = copy.deepcopy(fit.model.state_dict())
    fit.restore_best()
    for name, value in fit.model.state_dict().items():
        assert torch.equal(value, averaged[name]), name


def test_no_window_of_the_test_part_is_fitted_on(finished_run: Path) -> None:
    parts = parts_of(load_run(finished_run))
    joined = parts.fit.joined(parts.validation)
    assert joined.rows.tolist() == sorted([*parts.fit.rows.tolist(), *parts.validation.rows.tolist()])
    assert not set(joined.rows.tolist()) & set(parts.test.rows.tolist())


def test_windows_of_several_series_stay_together() -> None:
    values = np.arange(20.0)[:, None]

    def windows(*rows: int) -> WindowSet:
        return WindowSet(
            values=values,
            rows=np.array(rows),
            window=2,
            series_starts=np.array([0, 10, 20]),
            series_numbers=np.array([7, 8]),
        )

    joined = windows(2, 3, 12, 13, 14).joined(windows(5, 6, 15, 17))
    assert joined.rows.tolist() == [2, 3, 5, 6, 12, 13, 14, 15, 17]
    assert [(number, own.rows.tolist()) for number, own in joined.each_series()] == [
        (0, [2, 3, 5, 6]),
        (1, [12, 13, 14, 15, 17]),
    ]
    assert joined.batch(np.array([0, 4])).series is not None


def test_runs_are_joined_in_order() -> None:
    one, other = Runs.of_places(np.array([8, 9, 1])), Runs.of_places(np.array([4, 5]))
    assert one.joined(other).all_places().tolist() == [1, 4, 5, 8, 9]


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert main(["refit", *options, "--quiet"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_what_cannot_be_refitted_is_refused(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ("--run", str(finished_run))
    out = ("--out", str(tmp_path / "run"))
    assert "epochs is 13; it must be from 1 to 12" in refused(capsys, *run, *PLAIN, *out, "--epochs", "13")
    assert "epochs is 0; it must be from 1 to 12" in refused(capsys, *run, *PLAIN, *out, "--epochs", "0")
    assert "the run itself" in refused(capsys, *run, *PLAIN, "--out", str(finished_run), "--force")
    other = ("--data", "counting-steps")
    assert "not what" in refused(capsys, *run, *other, *out)
    assert not (tmp_path / "run").exists()
    new = refit(finished_run, tmp_path / "run", "--epochs", "1")
    assert "--force replaces it" in refused(capsys, *run, *PLAIN, *out)
    assert "give the run it came from" in refused(capsys, "--run", str(new), *PLAIN, "--out", str(tmp_path / "more"))
    refit(finished_run, new, "--epochs", "2", "--force")
    assert best_epoch(new) == 2


def test_broken_metrics_are_named(fit_command: FitCommand, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit_command()
    (run / "metrics.jsonl").write_text('{"epoch"')
    options = ("--run", str(run), *PLAIN, "--out", str(tmp_path / "run"))
    assert "metrics.jsonl is broken" in refused(capsys, *options)
    (run / "metrics.jsonl").write_text("")
    assert "marks no epoch as the best" in refused(capsys, *options)


def test_more_epochs_than_the_schedule_has_are_no_options() -> None:
    with pytest.raises(ValueError, match="refit_epochs is 4; it must be from 0 to epochs, 3"):
        FitOptions(epochs=3, refit_epochs=4)
