"""AR(p): the next value as a weighted sum of the last p.

Shapes: M windows, B windows of a block, P the order, N values ahead.
"""

import msgspec
import numpy as np

from training.baselines.naive import target_rows
from training.baselines.origins import blocks, reaching, sampled
from training.data import WindowSet
from training.fit import Predicted

# The coefficients are taken of at most so many windows, spread evenly.
FIT_WINDOWS = 2**20


class Autoregression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """next = intercept + Σ coefficients[k] · y[t - P + 1 + k], the oldest row first; further ahead, fed back."""

    intercept: float
    coefficients: tuple[float, ...]

    @property
    def name(self) -> str:
        """With the order."""
        return f"AR({self.reach})"

    @property
    def reach(self) -> int:
        """The order P."""
        return len(self.coefficients)

    def predict(self, windows: WindowSet) -> Predicted:
        """N values ahead, each from the values in front of it and the predictions so far."""
        order, coefficients_P = self.reach, np.array(self.coefficients)
        values_MX = np.empty((len(windows), order + windows.horizon))
        values_MX[:, :order] = target_rows(windows, -order, order)
        # A series that the coefficients make explode shows as infinity, which the report leaves out by name.
        with np.errstate(over="ignore", invalid="ignore"):
            for h in range(windows.horizon):
                values_MX[:, order + h] = self.intercept + values_MX[:, h : h + order] @ coefficients_P
        return Predicted(values_MX[:, order:], None, None)


def fit_autoregression(windows: WindowSet, order: int) -> Autoregression | None:
    """Least squares over the windows to fit on, in float64; None where there are no more of them than coefficients.

    Solved around the mean; where the lags depend on each other (a counting series), the shortest solution. The order
    may be another than the windows' length: those with fewer rows in front are left out.
    """
    windows = sampled(reaching(windows, order), FIT_WINDOWS)
    if len(windows) <= order + 1:
        return None
    centre = np.mean([block.targets()[:, 0].mean() for block in blocks(windows, order)])
    sums_P, products_PP, moments_P = np.zeros(order), np.zeros((order, order)), np.zeros(order)
    total = 0.0
    for block in blocks(windows, order):
        lags_BP = target_rows(block, -order, order) - centre
        targets_B = block.targets()[:, 0] - centre
        sums_P += lags_BP.sum(axis=0)
        products_PP += lags_BP.T @ lags_BP
        moments_P += lags_BP.T @ targets_B
        total += targets_B.sum()
    count = len(windows)
    covariance_PP = products_PP - np.outer(sums_P, sums_P) / count
    moments_P -= sums_P * (total / count)
    coefficients_P, *_ = np.linalg.lstsq(covariance_PP, moments_P, rcond=1e-13)
    intercept = centre + total / count - coefficients_P @ (sums_P / count + centre)
    return Autoregression(intercept=float(intercept), coefficients=tuple(coefficients_P.tolist()))
