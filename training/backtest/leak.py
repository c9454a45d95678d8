"""Does a forecaster look at what it is to predict? Replace it, and see whether the prediction changes.

Shapes: R rows, F features, M windows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.baselines import Forecaster
from training.baselines.origins import cut, over
from training.data import WindowSet
from training.data.rows import MemoryRows
from training.data.runs import Places, spread_evenly
from training.errors import LeakError
from training.fit import Predicted

NUM_ORIGINS = 16
# Where there are more numbers than this, a copy of the last of them is looked at.
COPIED_NUMBERS = 2**21


def check_leaks(forecasters: Sequence[Forecaster], windows: WindowSet, *, is_target_alone: bool, seed: int = 0) -> int:
    """Ask every forecaster again from a few origins after the values from there on were replaced by other ones.

    At and after an origin is meant in time: with dates, the rows of every series from that moment on, else the rows
    that lie behind. `is_target_alone` leaves covariates as they are. Nothing may change in what was said from that
    origin or an earlier one, by a single bit. Returns the number of origins; raises LeakError naming the forecaster.
    """
    sample = _copy(windows, max(forecaster.reach for forecaster in forecasters))
    before = [forecaster.predict(sample) for forecaster in forecasters]
    places_M = sample.rows
    clock_R = _clock(sample)
    clock_M = clock_R[places_M]
    values_RF = sample.values.astype(np.float64)
    columns = slice(0, 1) if is_target_alone else slice(None)
    noise_RF = _other_values(values_RF, np.random.default_rng(seed))
    times_R = sample.store.read(0, len(sample.store)).time_seconds
    # From the last origin to the first: what is replaced for one stays replaced for those in front of it.
    for origin in np.unique(clock_M)[::-1]:
        is_ahead_R = clock_R >= origin
        values_RF[is_ahead_R, columns] = noise_RF[is_ahead_R, columns]
        # A new store: one in memory keeps its rows in single precision too.
        altered = over(sample, MemoryRows(values_RF, times_R))
        is_seen_M = clock_M <= origin
        for forecaster, said in zip(forecasters, before, strict=True):
            row = _first_difference(said, forecaster.predict(altered), is_seen_M)
            if row is not None:
                raise LeakError(
                    f"{forecaster.name} looks ahead: its prediction of a value changes with that value and those "
                    f"behind it (origin {row + 1} of {len(sample)} that were tried)"
                )
    return len(sample)


def _copy(windows: WindowSet, reach: int) -> WindowSet:
    """A few windows over rows of their own, all rows or the last of them."""
    num_rows, num_features = len(windows.store), len(windows.largest)
    kept = COPIED_NUMBERS // num_features
    if num_rows <= kept:
        return cut(windows, spread_evenly(len(windows), NUM_ORIGINS), 0, num_rows)
    newest = np.arange(max(0, len(windows) - kept), len(windows))
    places = windows.rows_of(newest)
    stop = int(places.max()) + windows.horizon
    start = max(0, stop - kept)
    newest = newest[places - reach >= start]
    return cut(windows, newest[spread_evenly(len(newest), NUM_ORIGINS)], start, stop)


def _clock(windows: WindowSet) -> Places:
    """When each row was, [R]: its time, or its place where there are none."""
    times_R = windows.store.read(0, len(windows.store)).time_seconds
    return np.arange(len(windows.store)) if times_R is None else times_R


def _other_values(values_RF: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Numbers of another size than any there, so that a mean, an extreme or a single value of them shows."""
    largest_F = np.abs(values_RF).max(axis=0)
    # Twice the largest would not fit into single precision where that is near its end.
    factor_F = np.where(largest_F < np.finfo(np.float32).max / 8, 2.0, 0.25)
    unit_F = np.where(largest_F > 0, largest_F, 1.0) * factor_F
    noise_RF: NDArray[np.float64] = generator.uniform(1, 2, values_RF.shape) * unit_F
    return noise_RF


def _first_difference(before: Predicted, after: Predicted, is_seen_M: NDArray[np.bool_]) -> int | None:
    """The first window that is told otherwise."""
    differs_M = np.zeros(len(is_seen_M), dtype=np.bool_)
    for old, new in zip(before, after, strict=True):
        if (old is None) != (new is None):
            return 0
        if old is not None and new is not None:
            differs_M |= (_bytes(old) != _bytes(new)).any(axis=1)
    found = np.flatnonzero(differs_M & is_seen_M)
    return int(found[0]) if len(found) else None


def _bytes(said: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Of each window, [M, bytes]: two numbers that are not finite are the same too."""
    return np.ascontiguousarray(said).reshape(len(said), -1).view(np.uint8)
