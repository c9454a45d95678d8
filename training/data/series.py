"""A series, and a dataset of them."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

# Dates (datetime64) or plain numbers (float64), such as years.
Times = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Series:
    """Rows in order of time, evenly spaced, every value a finite number.

    `values` is [L, F] in raw units, feature 0 the target. `targetable` [L] marks the rows a model may be
    asked for: their value was measured, and nothing in front of them was filled in by looking at it.
    """

    values: NDArray[np.float64]
    targetable: NDArray[np.bool_]
    times: Times | None = None


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a dataset came from, to be kept with what was learnt from it.

    `sha256` is of the file's bytes, `time` the column the rows are ordered by, `num_gaps_filled` counts values
    (not rows), `num_rows_untimed` rows dropped for want of a time and `num_rows_trimmed` rows at either end that
    no policy could fill.
    """

    sha256: str | None = None
    time: str | None = None
    num_series: int
    num_rows: int
    num_gaps_filled: int = 0
    num_rows_untimed: int = 0
    num_rows_trimmed: int = 0


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Series with the same features. A window never crosses from one series to the next."""

    features: tuple[str, ...]
    series: tuple[Series, ...]
    provenance: Provenance
