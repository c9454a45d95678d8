"""What a backtest asks of everything that predicts: the model, the baselines, and whatever a test puts beside them.

Shapes: M windows, N values ahead, K of them with intervals, L interval levels.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.data import WindowSet
from training.fit import Predicted


class Forecaster(Protocol):
    """Predicts from the rows in front of an origin, and never looks at that row or behind it."""

    @property
    def name(self) -> str:
        """What it is called in a report."""

    @property
    def reach(self) -> int:
        """How many rows in front of the origin it looks at."""

    def predict(self, windows: WindowSet) -> Predicted:
        """`windows.horizon` values ahead of each origin, [M, N]; intervals [M, K, L], K ≤ N, or None."""


class WithMargins:
    """A forecaster with intervals of constant width around what it says: `margins` [K, L] to either side."""

    def __init__(self, forecaster: Forecaster, margins_KL: NDArray[np.float64]) -> None:
        self.forecaster = forecaster
        self.margins_KL = margins_KL

    @property
    def name(self) -> str:
        """The forecaster's own."""
        return self.forecaster.name

    @property
    def reach(self) -> int:
        """The forecaster's own."""
        return self.forecaster.reach

    def predict(self, windows: WindowSet) -> Predicted:
        """The forecaster's values, with intervals for as many of them as there are margins."""
        next_MN = self.forecaster.predict(windows).next
        margins_KL = self.margins_KL[: windows.horizon]
        middle_MK1 = next_MN[:, : len(margins_KL), None]
        return Predicted(next_MN, middle_MK1 - margins_KL, middle_MK1 + margins_KL)
