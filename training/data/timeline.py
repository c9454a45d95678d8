"""Where each row stands on an evenly spaced timeline, so that missing rows become visible.

Even means a fixed step (the median one) or whole calendar months.
"""

import numpy as np
from numpy.typing import NDArray

from training.data.series import Times
from training.errors import DataError

# How far a step may be off a whole number of usual steps, as a share of one: clocks that stamp rows drift.
TOLERATED_JITTER = 0.1
SHORTEST_MONTH = np.timedelta64(28, "D")


def positions(times_L: Times, rows_L: NDArray[np.int64], label: str, *, is_even: bool = True) -> NDArray[np.int64]:
    """The place of each row, [L], from 0; a place without a row is a missing row.

    `rows_L` are the row numbers to name in an error, `label` says of which column, series and file. Raises DataError
    unless the times strictly increase and, where the rows are to be even, every step is a whole number of usual steps.
    """
    raw_steps = np.diff(times_L)
    backwards = np.flatnonzero(raw_steps <= np.zeros((), dtype=raw_steps.dtype))
    if len(backwards):
        i = backwards[0]
        raise DataError(
            f"{label}, row {rows_L[i + 1]}: {times_L[i + 1]} does not come after {times_L[i]}; "
            "timestamps must strictly increase"
        )
    # Most series are perfectly even, and there may be a hundred thousand of them, or one that fills the memory.
    if not is_even or (raw_steps == raw_steps[:1]).all():
        return np.arange(len(times_L))
    steps = np.diff(_clock(times_L, raw_steps))
    middle = (len(steps) - 1) // 2
    usual = np.partition(steps, middle)[middle]
    counts = np.rint(steps / usual)
    uneven = np.flatnonzero((counts < 1) | (np.abs(steps - counts * usual) > TOLERATED_JITTER * usual))
    if len(uneven):
        i = uneven[0]
        raise DataError(
            f"{label}, row {rows_L[i + 1]}: {times_L[i + 1]} follows {times_L[i]}, which is "
            f"{steps[i] / usual:.3g} usual steps; it must be a whole number of them (--spacing any counts rows instead)"
        )
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int64)


def _clock(times_L: Times, raw_steps: Times) -> NDArray[np.float64]:
    """Times as numbers whose even steps are even: months where every time is the same moment of a month, else as is.

    Counted from the first time, so that nanoseconds since 1970 lose nothing in a float.
    """
    is_dated = np.issubdtype(times_L.dtype, np.datetime64)
    if is_dated and (raw_steps >= SHORTEST_MONTH).all():
        months_L = times_L.astype("datetime64[M]")
        after_start = times_L - months_L.astype(times_L.dtype)
        before_end = (months_L + np.timedelta64(1, "M")).astype(times_L.dtype) - times_L
        is_once_a_month = bool((np.diff(months_L.astype(np.int64)) > 0).all())
        if is_once_a_month and (np.all(after_start == after_start[0]) or np.all(before_end == before_end[0])):
            times_L = months_L
    clock_L: NDArray[np.float64] = (times_L - times_L[0]).astype(np.float64)
    return clock_L


def spread(times_L: Times, positions_L: NDArray[np.int64]) -> Times:
    """A time for every place up to the last; those of missing rows divide the step they are missing from."""
    places = np.arange(positions_L[-1] + 1)
    before = np.searchsorted(positions_L, places, side="right") - 1
    after = np.minimum(before + 1, len(times_L) - 1)
    span = np.maximum(positions_L[after] - positions_L[before], 1)
    step = times_L[after] - times_L[before]
    # Whole parts first: a step of years in nanoseconds times thousands of places would not fit 64 bits.
    share = step // span
    places_in = places - positions_L[before]
    spread_times: Times = times_L[before] + share * places_in + (step - share * span) * places_in // span
    return spread_times


def utc_seconds(times_L: Times) -> NDArray[np.int64] | None:
    """Seconds since 1970, a date without a zone being taken as UTC; None for times that are no dates."""
    if not np.issubdtype(times_L.dtype, np.datetime64):
        return None
    return times_L.astype("datetime64[s]").astype(np.int64)
