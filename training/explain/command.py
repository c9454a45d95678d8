"""`python -m training explain`: choose a window of a run's test part and draw what the model does in it."""

import argparse
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from training.calendar import CYCLES
from training.data import DataOptions, Dataset, WindowSet, load, split_windows
from training.data.series import PackedSeries
from training.errors import DataError, OptionError
from training.explain.picture import Words, explain_picture
from training.explain.trace import trace
from training.files import write_atomically
from training.run import EXPLAIN_PICTURE, Run, load_run

DOTS_PER_INCH = 100
# Windows looked through at a time for the one that ends at a given time.
SEARCHED_AT_ONCE = 2**14


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add `explain` and its options."""
    explain: argparse.ArgumentParser = commands.add_parser(
        "explain",
        help="draw what a fitted model does inside one window",
        description="Draws the gates over time for one window of the test part, and how far back the loss reaches.",
    )
    explain.add_argument("--run", required=True, type=Path, metavar="runs/NAME", help="a finished run")
    explain.add_argument("--data", required=True, help="as for fit")
    explain.add_argument("--series", metavar="ID", help="take a window of this series; all by default")
    which = explain.add_mutually_exclusive_group()
    which.add_argument(
        "--row", type=int, metavar="N", help="the N-th window of the test part, from 1; the last by default"
    )
    which.add_argument(
        "--at", metavar="TIME", help="the window whose last value is of this time, such as 2014-11-27T08:30"
    )
    explain.add_argument(
        "--out", type=Path, metavar="FILE.png", help=f"the picture; by default {EXPLAIN_PICTURE} in the run's folder"
    )
    explain.add_argument("--quiet", action="store_true", help="print the picture's name alone")
    return explain


def run(options: argparse.Namespace, console: Console) -> int:
    """Draw and say where. Raises TrainingError where run, data or window cannot be used."""
    at_seconds = None if options.at is None else _seconds(options.at)
    out: Path = options.run / EXPLAIN_PICTURE if options.out is None else options.out
    if out.suffix.lower() != ".png":
        raise OptionError(f"--out is {options.out}; it must end in .png")
    fitted = load_run(options.run)
    model = fitted.config.model
    with load(_data_options(fitted, options.data)) as dataset:
        if fitted.series_ids:
            dataset = dataset.numbered_as(tuple(fitted.series_ids))  # noqa: PLW2901 (the same rows)
        windows = split_windows(dataset, fitted.config.split, model.window, model.horizon).test
        _check_inputs(fitted, windows)
        if options.series is not None:
            windows = _of_series(dataset, windows, options.series)
        number = _by_row(windows, options.row) if at_seconds is None else _by_time(windows, at_seconds, options.at)
        batch = windows.batch(np.array([number]), np.float64)
        name = _window_name(dataset, windows, number)
    console.print(f"window {number + 1} of {len(windows)} of the test part")
    picture = explain_picture(trace(fitted.model, batch), _words(fitted, name))
    buffer = BytesIO()
    picture.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, buffer.getvalue())
    Console(highlight=False, soft_wrap=True).print(str(out), markup=False)
    return 0


def _data_options(fitted: Run, source: str) -> DataOptions:
    """The run's columns and rules for another source."""
    return msgspec.structs.replace(fitted.config.data, source=source, column=fitted.config.features[0])


def _check_inputs(fitted: Run, windows: WindowSet) -> None:
    """Refuse data that lacks what the model reads beside values."""
    if fitted.model.needs_time and not windows.has_times:
        raise DataError(f"a calendar was fitted ({', '.join(fitted.config.model.calendar)}); the data has no dates")
    if fitted.model.needs_series and not windows.has_series:
        raise DataError("series were fitted; the data has no column that names series")


def _of_series(dataset: Dataset, windows: WindowSet, name: str) -> WindowSet:
    if not dataset.series_ids:
        raise OptionError(f"--series is {name!r}, but the data has no column that names series")
    for place, own in windows.each_series():
        if dataset.series_ids[place] == name:
            return own
    raise OptionError(f"--series is {name!r}, of which the test part has no window")


def _by_row(windows: WindowSet, row: int | None) -> int:
    """From 0."""
    if row is None:
        return len(windows) - 1
    if not 1 <= row <= len(windows):
        raise OptionError(f"--row is {row}; the test part has windows 1 to {len(windows)}")
    return row - 1


def _by_time(windows: WindowSet, seconds: int, text: str) -> int:
    """The first window, from 0, whose last value is of this time."""
    if not windows.has_times:
        raise OptionError(f"--at is {text!r}, but the data has no column of dates; give --row")
    ends = []
    for start in range(0, len(windows), SEARCHED_AT_ONCE):
        batch = windows.batch(np.arange(start, min(start + SEARCHED_AT_ONCE, len(windows))))
        assert batch.time_seconds is not None
        found = np.flatnonzero(batch.time_seconds[:, -1] == seconds)
        if len(found):
            return start + int(found[0])
        ends.append((batch.time_seconds[:, -1].min(), batch.time_seconds[:, -1].max()))
    first, last = min(low for low, _ in ends), max(high for _, high in ends)
    raise OptionError(
        f"--at is {text!r}; no window of the test part ends then, they end from {_date(first)} to {_date(last)}"
    )


def _seconds(text: str) -> int:
    """UTC seconds since 1970 of a date, which is UTC unless it says otherwise."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise OptionError(f"--at is {text!r}; it must be a date, such as 2014-11-27T08:30") from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def _date(seconds: np.int64) -> str:
    return (
        datetime.fromtimestamp(int(seconds), tz=UTC)
        .strftime("%Y-%m-%dT%H:%M:%S")
        .removesuffix(":00")
        .removesuffix("T00:00")
    )


def _window_name(dataset: Dataset, windows: WindowSet, number: int) -> str:
    """Which window of what, for the title."""
    batch = windows.batch(np.array([number]))
    name = f"{dataset.features[0]}, window {number + 1} of {len(windows)} of the test part"
    if dataset.series_ids:
        (place,) = PackedSeries.of(dataset.series).series_of(windows.rows_of(np.array([number])))
        name = f"{dataset.series_ids[place]}, {name}"
    if batch.time_seconds is not None:
        name += f", {_date(batch.time_seconds[0, 0])} to {_date(batch.time_seconds[0, -1])}"
    return name


def _words(fitted: Run, window: str) -> Words:
    model = fitted.config.model
    channels = [
        f"{wave} {k} × {cycle}"
        for cycle in model.calendar
        for k in range(1, CYCLES[cycle].harmonics + 1)
        for wave in ("sin", "cos")
    ]
    return Words(
        cell=model.cell,
        features=fitted.config.features,
        inputs=(*fitted.config.features, *channels),
        transform=model.transform if model.scaling == "fit" else f"{model.transform}, scaling by {model.scaling}",
        window=window,
        levels=model.levels,
    )
