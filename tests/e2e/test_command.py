"""`python -m nextvalue` against a server started as a user would: times, series and intervals by the command."""

import datetime
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.server.harness import ServerProcess, server_process
from tests.server.oracle import STRANGER, Call, Oracle

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def process(models: Path) -> Iterator[ServerProcess]:
    with server_process(models, "--reference", "off") as process:
        process.await_ready()
        yield process


def command(process: ServerProcess, *arguments: str) -> "subprocess.CompletedProcess[str]":
    name, *options = arguments
    words = [sys.executable, "-m", "nextvalue", name, "--target", process.target, *options]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def rows(array: np.ndarray) -> str:
    return ";".join(",".join(str(value) for value in row) for row in array)


def test_demand_is_predicted_with_all_it_takes(process: ServerProcess, models: Path) -> None:
    oracle = Oracle(models / "demand" / "1")
    generator = np.random.default_rng(5)
    noon = datetime.datetime(2024, 1, 31, 12, tzinfo=datetime.UTC)
    times = [noon + k * datetime.timedelta(minutes=90) for k in range(6)]
    call = Call(
        windows=oracle.random_windows(generator, 2, ["Café ☕", STRANGER]),
        horizon=3,
        time_seconds=np.tile([int(time.timestamp()) for time in times], (2, 1)),
        series=["Café ☕", STRANGER],
    )
    options = ["--model", "demand", "--horizon", "3", "--intervals", "0.9"]
    for window in call.windows:
        options += ["--window", rows(window)]
    for name in call.series or ():
        options += ["--series", name]
    options += ["--times", ",".join(time.isoformat() for time in times)]
    done = command(process, "predict", *options, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    expected = oracle.expect(call)
    oracle.assert_right(np.array(answer["predictions"], np.float32), expected)
    lower, upper = (np.array(answer[end], np.float32) for end in ("lower", "upper"))
    oracle.assert_ends_right(lower, upper, expected, [1])
    assert (answer["levels"], answer["num_unknown_series"]) == ([0.9], 1)
    done = command(process, "predict", *options)
    assert done.stderr.startswith("nextvalue: 1 of 2 windows are of a series that the model does not know")
    header, first, *others = done.stdout.splitlines()
    assert header.split() == ["WINDOW", "AHEAD", "PREDICTION", "LOWER", "0.9", "UPPER", "0.9"]
    assert [float(cell) for cell in first.split()] == [
        1, 1, answer["predictions"][0][0], answer["lower"][0][0][0], answer["upper"][0][0][0],
    ]  # fmt: skip
    assert len(others) == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--intervals"], "INVALID_ARGUMENT: intervals is asked for; the model has none"),
        (["--series", "a"], "INVALID_ARGUMENT: series is given for 1 windows; the model takes none"),
        (["--times", "1,2,3,4,5"], "INVALID_ARGUMENT: time_seconds.shape is [1, 5]; the model has no calendar"),
    ],
)
def test_what_demo_does_not_have_is_one_line(process: ServerProcess, options: list[str], said: str) -> None:
    done = command(process, "predict", "--model", "demo", "--window", "1,2,3,4,5", *options)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert said in line


def test_models_shows_what_each_takes_and_gives(process: ServerProcess) -> None:
    done = command(process, "models")
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    columns = lines["NAME"]
    shown = {
        name: [lines[name][columns.index(column)] for column in ("HORIZON", "CALENDAR", "SCALING", "LEVELS")]
        for name in ("demand", "windowed", "demo")
    }
    assert shown == {
        "demand": ["3", "day,week", "series", "0.5,0.9"],
        "windowed": ["2", "-", "window", "0.9"],
        "demo": ["1", "-", "fit", "-"],
    }
