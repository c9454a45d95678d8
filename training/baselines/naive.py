"""The forecasts that cost nothing: the last value, and the value one season ago.

Shapes: M windows, N values ahead.
"""

import numpy as np
from numpy.typing import NDArray

from training.data import WindowSet
from training.fit import Predicted


class LastValue:
    """Tomorrow is like today: y_{t+h} = y_t."""

    name = "last value"
    reach = 1

    def predict(self, windows: WindowSet) -> Predicted:
        """The target's last value in front of each origin, N times."""
        return Predicted(np.tile(target_rows(windows, -1, 1), windows.horizon), None, None)


class SeasonalNaive:
    """Tomorrow is like the same time one season of m rows ago: y_{t+h} = y_{t+h-m⌈h/m⌉}."""

    def __init__(self, season: int) -> None:
        self.season = season

    @property
    def name(self) -> str:
        """With the season's length."""
        return f"seasonal naive ({self.season})"

    @property
    def reach(self) -> int:
        """One season."""
        return self.season

    def predict(self, windows: WindowSet) -> Predicted:
        """The newest season in front of each origin, over and over."""
        newest_MS = target_rows(windows, -self.season, min(self.season, windows.horizon))
        return Predicted(newest_MS[:, np.arange(windows.horizon) % self.season], None, None)


def target_rows(windows: WindowSet, offset: int, length: int) -> NDArray[np.float64]:
    """`length` values of the target from `offset` rows behind each origin on, [M, length]."""
    starts_M = windows.rows_of(np.arange(len(windows))) + offset
    return (
        windows.store.gather(starts_M, length, np.float64, times=False).values[:, :, 0].astype(np.float64, copy=False)
    )
