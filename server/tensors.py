"""Inputs and outputs of a window graph: arrays by the graph's own names, all with a row for each window.

Shapes: B windows, T time, F features, K values given directly, L interval levels.

    window        float32 [B, T, F]      next     float32 [B, K]
    time_seconds  int64   [B, T]         lower    float32 [B, K, L]
    series        int64   [B, 1]         upper    float32 [B, K, L]
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW, TIME_SECONDS, SERIES = "window", "time_seconds", "series"
NEXT, LOWER, UPPER = "next", "lower", "upper"
# What a caller may see; a graph may give more for the parity check.
SHOWN = (NEXT, LOWER, UPPER)

Tensors = dict[str, NDArray[Any]]


def is_finite(values: NDArray[np.float32]) -> bool:
    """Whether no element is NaN or infinite."""
    # Where the sum of squares is finite each of them is; where it is not, it may have overflowed.
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())


def joined(pieces: Sequence[Tensors]) -> Tensors:
    """The rows of all pieces, one piece behind the other, C-contiguous. All pieces have the same names."""
    first = pieces[0]
    if len(pieces) > 1:
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in first}
    for name, array in first.items():
        first[name] = np.ascontiguousarray(array)
    return first
