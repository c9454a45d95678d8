"""The options of the commands that a backtest is asked for with."""

from pathlib import Path

import msgspec
import pytest

from tests.training.conftest import FitCommand
from training.__main__ import main
from training.backtest import Report
from training.run import load_run


def report_of(folder: Path) -> Report:
    return msgspec.json.decode((folder / "report.json").read_bytes(), type=Report)


def test_a_longer_horizon_is_asked_for_later(finished_run: Path, tmp_path: Path) -> None:
    """Nothing is fitted again: what was fitted beside the model is in the run's report."""
    options = ["backtest", "--run", str(finished_run), "--data", "counting", "--quiet", "--out", str(tmp_path)]
    assert main([*options, "--horizon", "3"]) == 0
    report, before = report_of(tmp_path), msgspec.convert(load_run(finished_run).backtest, Report)
    assert report.baselines == before.baselines
    assert (report.protocol.horizon, report.protocol.direct_horizon) == (3, 1)
    assert [len(row.horizons) for row in report.rows] == [3] * 4
    assert report.rows[0].horizons[0].rmse == pytest.approx(before.rows[0].rmse, rel=0.2)
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_season_can_be_given(fit_command: FitCommand) -> None:
    report = report_of(fit_command("--season", "7", "--epochs", "1"))
    assert [row.name for row in report.rows][:3] == ["lstm", "last value", "seasonal naive (7)"]
    assert report.rows[2].mae == pytest.approx(7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--season", "1"), "season is 1; it must be at least 2 rows, or 0 for none"),
        (("--levels", "0.9,0.995"), "levels has 0.995, which needs 199 windows of the validation part"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_is_fitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert main(["fit", "--data", "counting", "--out", str(tmp_path / "run"), "--quiet", *options]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("horizon", "message"),
    [
        ("0", "horizon is 0; it must be at least 1"),
        ("21", "horizon is 21; the longest stretch to test on has 20 values without a gap"),
    ],
)
def test_a_horizon_that_cannot_be_is_one_line(
    finished_run: Path, capsys: pytest.CaptureFixture[str], horizon: str, message: str
) -> None:
    options = ["backtest", "--run", str(finished_run), "--data", "counting", "--quiet"]
    assert main([*options, "--horizon", horizon]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"
