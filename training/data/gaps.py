"""What to do where a value is missing."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

POLICIES = ("error", "ffill", "interpolate")


class Filled(NamedTuple):
    """Values [L, F] without NaN, which rows may be targets [L], and which rows of the input they are."""

    values: NDArray[np.float64]
    targetable: NDArray[np.bool_]
    kept: slice
    num_gaps_filled: int


def fill(values_LF: NDArray[np.float64], policy: str) -> Filled:
    """Replace every NaN: by the last value before it (`ffill`), or along a line between its neighbours.

    Rows in front of the first complete one are left out, and with `interpolate` those behind the last one.
    A filled row is context, never a target. With `interpolate` the row behind a gap is no target either: what
    was drawn into the gap points at it. Values without a gap come back as they are, whatever the policy.
    """
    missing_LF = np.isnan(values_LF)
    if not missing_LF.any():
        return Filled(values_LF, np.ones(len(values_LF), dtype=np.bool_), slice(0, len(values_LF)), 0)
    complete = np.flatnonzero(~missing_LF.any(axis=1))
    if not len(complete):
        return Filled(values_LF[:0], np.zeros(0, dtype=np.bool_), slice(0, 0), 0)
    kept = slice(int(complete[0]), int(complete[-1]) + 1 if policy == "interpolate" else len(values_LF))
    values_LF, missing_LF = values_LF[kept].copy(), missing_LF[kept]
    rows = np.arange(len(values_LF))
    for f in range(values_LF.shape[1]):
        known = np.flatnonzero(~missing_LF[:, f])
        if policy == "ffill":
            values_LF[:, f] = values_LF[known[np.searchsorted(known, rows, side="right") - 1], f]
        else:
            values_LF[:, f] = np.interp(rows, known, values_LF[known, f])
    is_filled: NDArray[np.bool_] = np.logical_or.reduce(missing_LF, axis=1)
    targetable = ~is_filled
    if policy == "interpolate":
        targetable[1:] &= ~is_filled[:-1]
    return Filled(values_LF, targetable, kept, int(missing_LF.sum()))
