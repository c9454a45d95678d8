"""Windows and the values that follow them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.series import Dataset
from training.data.split import SplitOptions
from training.errors import DataError


@dataclass(frozen=True, kw_only=True)
class WindowSet:
    """M windows of T rows, kept as places in one shared array: a row is stored once, however many windows hold it.

    `values` is [R, F], every series after the other; `rows` [M] are the places of the targets in it. A window is
    the `window` rows in front of its target.
    """

    values: NDArray[np.float64]
    rows: NDArray[np.int64]
    window: int

    def __len__(self) -> int:
        return len(self.rows)

    def windows(self, limit: int | None = None) -> NDArray[np.float64]:
        """The windows [M, T, F], or `limit` of them spread evenly."""
        windows_MTF: NDArray[np.float64] = self.values[self._chosen(limit)[:, None] + np.arange(-self.window, 0)]
        return windows_MTF

    def targets(self, limit: int | None = None) -> NDArray[np.float64]:
        """The target values [M] that followed the windows, in the same order."""
        targets_M: NDArray[np.float64] = self.values[self._chosen(limit), 0]
        return targets_M

    def _chosen(self, limit: int | None) -> NDArray[np.int64]:
        if limit is None or limit >= len(self):
            return self.rows
        return self.rows[np.linspace(0, len(self) - 1, limit).round().astype(np.int64)]


class Parts(NamedTuple):
    """The windows to fit on, to stop by and to judge by."""

    fit: WindowSet
    validation: WindowSet
    test: WindowSet


def split_windows(dataset: Dataset, split: SplitOptions, window: int) -> Parts:
    """Cut every series in time and collect each part's windows.

    A part is where a target lies: the first windows of validation and test look back into the part before
    them, and no target is in two parts. Raises DataError where a part has no window or the target never
    changes in the part to fit on.
    """
    values = np.concatenate([series.values for series in dataset.series])
    rows: tuple[list[NDArray[np.int64]], ...] = ([], [], [])
    fitted_on = []
    offset = 0
    for series in dataset.series:
        bounds = split.bounds(len(series.values))
        fitted_on.append(series.values[bounds.fit.start : bounds.fit.stop, 0])
        for found, part in zip(rows, bounds, strict=True):
            inside = np.arange(max(part.start, window), part.stop)
            found.append(offset + inside[series.targetable[inside]])
        offset += len(series.values)
    targets = np.concatenate(fitted_on)
    if (targets == targets[0]).all() and len(targets) > window:
        raise DataError(
            f"column {dataset.features[0]!r} is {targets[0]:g} in all {len(targets)} rows to fit on; nothing to learn"
        )
    parts = Parts(*(WindowSet(values=values, rows=np.concatenate(found), window=window) for found in rows))
    for name, windows in zip(Parts._fields, parts, strict=True):
        if not len(windows):
            lengths = sorted({len(series.values) for series in dataset.series})
            raise DataError(
                f"the {name} part has no window of {window} rows with a measured value behind it; "
                f"the series has {lengths[-1]} rows, of which {split.bounds(lengths[-1]).fit.stop} to fit on"
            )
    return parts
