"""From a dataset to its windows: cut every series in time and find the places that may be targets.

Shapes: S series, K runs of places, P parts.
"""

import numpy as np
from numpy.typing import NDArray

from training.data.provenance import listed
from training.data.runs import Places, Runs
from training.data.series import Dataset, PackedSeries
from training.data.split import SplitOptions
from training.data.windows import Parts, WindowSet
from training.errors import DataError

# Rows read at a time while looking for two that differ.
BLOCK = 2**16


def split_windows(dataset: Dataset, split: SplitOptions, window: int, horizon: int = 1) -> Parts:
    """Cut every series in time and collect each part's windows.

    A part is where all targets of a window lie: the first windows of validation and test look back into the part
    before them, no row is a target in two parts and no window sees a later part. A series with no window to fit
    on is left out of every part. Raises DataError where a part has no window or the target never changes in the
    part to fit on.
    """
    packed = PackedSeries.of(dataset.series)
    starts_SP, stops_SP, failure = _bounds(packed, split)
    fit = _runs(packed, starts_SP[:, 0], stops_SP[:, 0], window, horizon)
    is_used_S = np.zeros(len(packed), dtype=np.bool_)
    is_used_S[packed.series_of(fit.starts)] = True
    stops_SP[~is_used_S] = starts_SP[~is_used_S]
    sets = [
        _window_set(
            dataset, packed, _runs(packed, starts_SP[:, part], stops_SP[:, part], window, horizon), window, horizon
        )
        for part in range(len(Parts._fields))
    ]
    parts = Parts(*sets)
    for name, windows in zip(Parts._fields, parts, strict=True):
        if not len(windows):
            if failure is not None and not is_used_S.any():
                raise failure
            raise DataError(_no_window(name, packed, split, window, horizon))
    _refuse_constant(dataset, packed, np.flatnonzero(is_used_S), starts_SP[:, 0], stops_SP[:, 0])
    return parts


def coverage_lines(dataset: Dataset, parts: Parts) -> tuple[str, ...]:
    """Which series have no window in which part, for a person to read; no line where each has one in each."""
    num_series = len(dataset.series)
    if not dataset.series_ids:
        return ()
    lines = []
    used_S = parts.fit.windows_per_series > 0
    left_out = [dataset.series_ids[s] for s in np.flatnonzero(~used_S)]
    if left_out:
        lines.append(
            f"{len(left_out)} of {num_series} series have no window of {parts.fit.window} rows to fit on and are left "
            f"out: {listed(left_out)}"
        )
    for name, windows in (("validation", parts.validation), ("test", parts.test)):
        absent = [dataset.series_ids[s] for s in np.flatnonzero(used_S & (windows.windows_per_series == 0))]
        if absent:
            lines.append(f"{len(absent)} of {num_series} series have no window in the {name} part: {listed(absent)}")
    return tuple(lines)


def all_windows(dataset: Dataset, window: int, horizon: int = 1) -> WindowSet:
    """Every window of a dataset that nothing was fitted on. Raises DataError if there is none."""
    packed = PackedSeries.of(dataset.series)
    runs = _runs(packed, packed.starts[:-1], packed.starts[1:], window, horizon)
    found = _window_set(dataset, packed, runs, window, horizon)
    if not len(found):
        raise DataError(
            f"the longest series has {packed.lengths.max()} rows; "
            f"a window of {window} and {horizon} to follow it need at least {window + horizon}"
        )
    return found


def _window_set(dataset: Dataset, packed: PackedSeries, runs: Runs, window: int, horizon: int) -> WindowSet:
    """The windows whose first targets are at `runs`."""
    return WindowSet(
        values=packed.rows,
        rows=runs,
        window=window,
        horizon=horizon,
        series_starts=packed.starts,
        series_numbers=dataset.series_numbers,
    )


def _bounds(packed: PackedSeries, split: SplitOptions) -> tuple[Places, Places, DataError | None]:
    """Where each part of each series begins and ends, [S, P]; all empty for a series too short to be cut."""
    lengths, which_S = np.unique(packed.lengths, return_inverse=True)
    starts = np.zeros((len(lengths), len(Parts._fields)), dtype=np.int64)
    stops = np.zeros_like(starts)
    failure = None
    for i, length in enumerate(lengths):
        try:
            bounds = split.bounds(int(length))
        except DataError as error:
            failure = error
            continue
        starts[i] = [part.start for part in bounds]
        stops[i] = [part.stop for part in bounds]
    offsets_S1 = packed.starts[:-1, None]
    return offsets_S1 + starts[which_S], offsets_S1 + stops[which_S], failure


def _runs(packed: PackedSeries, starts_S: Places, stops_S: Places, window: int, horizon: int) -> Runs:
    """First targets with a window in front of them and all their targets in `starts` to `stops` of their series."""
    series_K = packed.series_of(packed.targetable.starts)
    earliest_K = np.maximum(starts_S, packed.starts[:-1] + window)[series_K]
    return Runs.of_bounds(
        np.maximum(packed.targetable.starts, earliest_K),
        np.minimum(packed.targetable.stops, stops_S[series_K]) - (horizon - 1),
    )


def _no_window(name: str, packed: PackedSeries, split: SplitOptions, window: int, horizon: int) -> str:
    longest = int(packed.lengths.max())
    behind = "a measured value" if horizon == 1 else f"{horizon} measured values"
    which = "the series" if len(packed) == 1 else f"the longest of {len(packed)} series"
    return (
        f"the {name} part has no window of {window} rows with {behind} behind it; "
        f"{which} has {longest} rows, of which {split.bounds(longest).fit.stop} to fit on"
    )


def _refuse_constant(
    dataset: Dataset, packed: PackedSeries, used: NDArray[np.intp], starts_S: Places, stops_S: Places
) -> None:
    """End at the first value to fit on that differs from the first one."""
    first = float(packed.rows.read(int(starts_S[used[0]]), int(starts_S[used[0]]) + 1).values[0, 0])
    for start, stop in zip(starts_S[used].tolist(), stops_S[used].tolist(), strict=True):
        for block in range(start, stop, BLOCK):
            if (packed.rows.read(block, min(block + BLOCK, stop)).values[:, 0] != first).any():
                return
    num_rows = int((stops_S[used] - starts_S[used]).sum())
    raise DataError(f"column {dataset.features[0]!r} is {first:g} in all {num_rows} rows to fit on; nothing to learn")
