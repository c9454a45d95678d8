"""Adds up how far a forecaster is off, a block of origins at a time.

Shapes: B origins of a block, N horizons, K of them with intervals, L interval levels, S series.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.backtest.report import HorizonScore, IntervalScore, Row
from training.fit import Predicted


class Score:
    """Sums over the origins of one forecaster; means by horizon [N] once all are in."""

    def __init__(self, name: str, *, horizon: int, num_series: int) -> None:
        self.name = name
        self.count = 0
        self.is_finite = True
        self._squares_N = np.zeros(horizon)
        self._distances_N = np.zeros(horizon)
        self._inside_KL: NDArray[np.float64] | None = None
        self._widths_KL: NDArray[np.float64] | None = None
        self.squares_S = np.zeros(num_series)

    def add(self, predicted: Predicted, targets_BN: NDArray[np.float64], series_B: NDArray[np.int64]) -> None:
        """Take in a block."""
        if not np.isfinite(predicted.next).all():
            self.is_finite = False
            return
        errors_BN = predicted.next - targets_BN
        self.count += len(errors_BN)
        self._squares_N += np.square(errors_BN).sum(axis=0)
        self._distances_N += np.abs(errors_BN).sum(axis=0)
        self.squares_S += np.bincount(series_B, np.square(errors_BN).sum(axis=1), len(self.squares_S))
        if predicted.lower is None or predicted.upper is None:
            return
        targets_BK1 = targets_BN[:, : predicted.lower.shape[1], None]
        inside_KL = ((predicted.lower <= targets_BK1) & (targets_BK1 <= predicted.upper)).sum(axis=0)
        widths_KL = (predicted.upper - predicted.lower).sum(axis=0)
        self._inside_KL = inside_KL + (0 if self._inside_KL is None else self._inside_KL)
        self._widths_KL = widths_KL + (0 if self._widths_KL is None else self._widths_KL)

    @property
    def rmses(self) -> NDArray[np.float64]:
        """Root mean square error of each horizon."""
        return np.sqrt(self._squares_N / self.count)

    @property
    def rmse(self) -> float:
        """Root mean square error over all horizons."""
        return math.sqrt(self._squares_N.mean() / self.count)

    def row(
        self, levels: Sequence[float], *, naive_error: float, last_value: "Score", seasonal_naive: "Score | None"
    ) -> Row:
        """The means, beside those of the baselines that skill is measured against."""
        mae_N = self._distances_N / self.count
        horizons = tuple(
            HorizonScore(
                horizon=h + 1,
                rmse=float(self.rmses[h]),
                mae=float(mae_N[h]),
                mase=_ratio(float(mae_N[h]), naive_error),
                skill_vs_last_value=_skill(self.rmses[h], last_value.rmses[h]),
                skill_vs_seasonal_naive=None
                if seasonal_naive is None
                else _skill(self.rmses[h], seasonal_naive.rmses[h]),
                intervals=self._intervals(levels, [h]),
            )
            for h in range(len(mae_N))
        )
        return Row(
            name=self.name,
            rmse=self.rmse,
            mae=float(mae_N.mean()),
            mase=_ratio(float(mae_N.mean()), naive_error),
            skill_vs_last_value=_skill(self.rmse, last_value.rmse),
            skill_vs_seasonal_naive=None if seasonal_naive is None else _skill(self.rmse, seasonal_naive.rmse),
            intervals=self._intervals(levels, None),
            horizons=horizons,
        )

    def _intervals(self, levels: Sequence[float], horizons: list[int] | None) -> tuple[IntervalScore, ...]:
        """Over the horizons given, or all that have intervals."""
        if self._inside_KL is None or self._widths_KL is None:
            return ()
        among = slice(None) if horizons is None else [h for h in horizons if h < len(self._inside_KL)]
        inside_L, widths_L = self._inside_KL[among], self._widths_KL[among]
        if not len(inside_L):
            return ()
        return tuple(
            IntervalScore(level=level, coverage=float(coverage), mean_width=float(width))
            for level, coverage, width in zip(
                levels, inside_L.mean(axis=0) / self.count, widths_L.mean(axis=0) / self.count, strict=True
            )
        )


def _skill(rmse: float, baseline: float) -> float | None:
    share = _ratio(float(rmse), float(baseline))
    return None if share is None else 1 - share


def _ratio(error: float, unit: float) -> float | None:
    return error / unit if unit > 0 else None
