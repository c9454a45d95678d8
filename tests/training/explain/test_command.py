"""The command as a user gives it: the window that is meant, the picture where it is wanted, one line otherwise."""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from tests.training.conftest import FitCommand
from training.data import DataOptions, SplitOptions, load, split_windows
from training.errors import DataError, OptionError, RunError
from training.explain import command
from training.explain.command import add_parser, run
from training.explain.picture import Words
from training.explain.trace import Trace

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2026-03-01T00:00")
ROWS = 60
TEST_START = 48  # the last fifth


@pytest.fixture(scope="module")
def pumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hourly series of 60 values: row i of `north` is i, of `south` 1000 - 3i, both with a wave."""
    path = tmp_path_factory.mktemp("data") / "pumps.csv"
    lines = ["pump,time,flow"]
    for name, level, step in (("north", 0, 1), ("south", 1000, -3)):
        lines += [f"{name},{START + i * HOUR},{level + step * i + 0.2 * (i % 5):.2f}" for i in range(ROWS)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def pumps_run(fit_command: FitCommand, pumps: Path) -> Path:
    return fit_command(
        *("--data", str(pumps), "--series", "pump", "--scaling", "series", "--calendar", "day"),
        *("--cell", "gru", "--window", "6", "--epochs", "2"),
    )


Explain = Callable[..., int]


@pytest.fixture
def explain() -> Explain:
    def explain(*options: str) -> int:
        parser = argparse.ArgumentParser()
        add_parser(parser.add_subparsers())
        return run(parser.parse_args(["explain", *options]), Console(quiet=True))

    return explain


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Trace, Words]]:
    """What was to be drawn, in place of drawing it."""
    found: list[tuple[Trace, Words]] = []

    def keep(trace: Trace, words: Words) -> Figure:
        found.append((trace, words))
        return Figure(figsize=(1, 1))

    monkeypatch.setattr(command, "explain_picture", keep)
    return found


def test_the_picture_lies_where_it_is_wanted(
    explain: Explain, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "inside.png"
    assert explain("--run", str(finished_run), "--data", "counting", "--out", str(out)) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"{out}\n"


def test_by_default_it_is_the_last_window_and_a_file_in_the_runs_folder(
    explain: Explain, finished_run: Path, tmp_path: Path, drawn: list[tuple[Trace, Words]]
) -> None:
    """The counting example's test part has 200 windows."""
    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    assert explain("--run", str(folder), "--data", "counting") == 0
    assert (folder / "explain.png").exists()
    ((trace, words),) = drawn
    last = trace.truth[0]
    assert last == counting_targets()[-1]
    assert trace.window[:, 0].tolist() == [last - 5, last - 4, last - 3, last - 2, last - 1]
    assert words.window == "value, window 200 of 200 of the test part"
    assert (words.cell, words.transform, words.inputs) == ("lstm", "difference", ("value",))


def counting_targets() -> list[float]:
    with load(DataOptions(source="counting")) as dataset:
        return [float(value) for value in split_windows(dataset, SplitOptions(), 5).test.targets()[:, 0]]


def test_a_row_counts_from_the_first_window_of_the_test_part(
    explain: Explain, finished_run: Path, tmp_path: Path, drawn: list[tuple[Trace, Words]]
) -> None:
    options = ("--run", str(finished_run), "--data", "counting", "--out", str(tmp_path / "x.png"))
    for row in (1, 2, 200):
        assert explain(*options, "--row", str(row)) == 0
    targets = counting_targets()
    assert [trace.truth[0] for trace, _ in drawn] == [targets[0], targets[1], targets[199]]
    assert targets[1] == targets[0] + 1
    for row in (0, -1, 201):
        with pytest.raises(OptionError, match=rf"--row is {row}; the test part has windows 1 to 200"):
            explain(*options, "--row", str(row))


def test_a_time_and_a_series_choose_the_window(
    explain: Explain, pumps: Path, pumps_run: Path, tmp_path: Path, drawn: list[tuple[Trace, Words]]
) -> None:
    options = ("--run", str(pumps_run), "--data", str(pumps), "--out", str(tmp_path / "x.png"))
    last_row = TEST_START + 4
    for at in (str(START + last_row * HOUR), f"{START + (last_row + 2) * HOUR}:00+02:00"):
        assert explain(*options, "--at", at) == 0
        assert explain(*options, "--at", at, "--series", "south") == 0
        (north, _), (south, words) = drawn[-2:]
        rows = np.arange(last_row - 5, last_row + 1)
        assert north.window[:, 0] == pytest.approx(rows + 0.2 * (rows % 5), abs=1e-4)
        assert south.window[:, 0] == pytest.approx(1000 - 3 * rows + 0.2 * (rows % 5), abs=1e-3)
        assert south.truth[0] == pytest.approx(1000 - 3 * (last_row + 1) + 0.2 * ((last_row + 1) % 5), abs=1e-3)
    assert words.window == "south, flow, window 6 of 12 of the test part, 2026-03-02T23:00 to 2026-03-03T04:00"
    assert words.inputs[:3] == ("flow", "sin 1 × day", "cos 1 × day")
    assert len(words.inputs) == south.inputs.shape[1] == 7
    assert words.transform == "difference, scaling by series"


def test_a_series_is_explained_with_its_own_scale(
    explain: Explain, pumps: Path, pumps_run: Path, tmp_path: Path, drawn: list[tuple[Trace, Words]]
) -> None:
    """A file with the second series alone: it keeps the number that the run knows it by."""
    header, *lines = pumps.read_text().splitlines(keepends=True)
    (tmp_path / "south.csv").write_text("".join([header, *(line for line in lines if line.startswith("south"))]))
    for source in (pumps, tmp_path / "south.csv"):
        assert explain("--run", str(pumps_run), "--data", str(source), "--out", str(tmp_path / "x.png")) == 0
    (before, _), (after, words) = drawn
    assert words.window.startswith("south, flow, window 12 of 12")
    assert after.prediction.tolist() == before.prediction.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--at", "yesterday"), "--at is 'yesterday'; it must be a date, such as 2014-11-27T08:30"),
        (
            ("--at", "2030-01-01"),
            "no window of the test part ends then, they end from 2026-03-02T23:00 to 2026",
        ),
        (("--series", "west"), "--series is 'west', of which the test part has no window"),
        (("--out", "picture.jpg"), "--out is picture.jpg; it must end in .png"),
    ],
)
def test_what_is_not_there_is_one_line(
    explain: Explain, pumps: Path, pumps_run: Path, options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(OptionError) as caught:
        explain("--run", str(pumps_run), "--data", str(pumps), *options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (pumps_run / "explain.png").exists()


def test_data_without_dates_or_series_says_so(explain: Explain, finished_run: Path) -> None:
    for options, message in (
        (("--at", "2026-01-01"), "the data has no column of dates; give --row"),
        (("--series", "north"), "the data has no column that names series"),
    ):
        with pytest.raises(OptionError, match=message):
            explain("--run", str(finished_run), "--data", "counting", *options)


def test_a_model_with_a_calendar_needs_dates(explain: Explain, pumps: Path, pumps_run: Path, tmp_path: Path) -> None:
    lines = pumps.read_text().splitlines()[1:]
    rows = [f"{line.split(',')[0]},{i % ROWS},{line.split(',')[2]}" for i, line in enumerate(lines)]
    (tmp_path / "undated.csv").write_text("\n".join(["pump,time,flow", *rows]) + "\n")
    with pytest.raises(DataError, match=r"a calendar was fitted \(day\); the data has no dates"):
        explain("--run", str(pumps_run), "--data", str(tmp_path / "undated.csv"))


def test_a_run_or_file_that_is_not_there_is_named(explain: Explain, finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="missing is not a folder"):
        explain("--run", str(tmp_path / "missing"), "--data", "counting")
    with pytest.raises(DataError, match=r"missing\.csv is not a file"):
        explain("--run", str(finished_run), "--data", "missing.csv")
