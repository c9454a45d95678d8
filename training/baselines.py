"""What a model must beat to have learnt anything: the last value, and a straight autoregression.

Shapes: M windows, T rows in a window.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.data import WindowSet


def last_value(windows: WindowSet) -> NDArray[np.float64]:
    """Tomorrow is like today: the target's last value in each window, [M]."""
    predicted_M: NDArray[np.float64] = windows.values[windows.rows - 1, 0]
    return predicted_M


class Autoregression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """AR(T): next = intercept + Σ coefficients[k] · target[t - T + 1 + k], the oldest row of the window first."""

    intercept: float
    coefficients: tuple[float, ...]

    def predict(self, windows: WindowSet) -> NDArray[np.float64]:
        """The prediction for every window, [M]."""
        predicted_M = np.full(len(windows), self.intercept)
        for k, coefficient in enumerate(self.coefficients):
            predicted_M += coefficient * windows.values[windows.rows - len(self.coefficients) + k, 0]
        return predicted_M


def fit_autoregression(windows: WindowSet) -> Autoregression:
    """Least squares over the windows to fit on, in float64.

    Solved around the mean; where the lags depend on each other (a counting series), the shortest solution.
    """
    order = windows.window
    sums_T = np.zeros(order)
    products_TT = np.zeros((order, order))
    moments_T = np.zeros(order)
    targets_M = windows.targets()[:, 0]
    centre = targets_M.mean()
    # In blocks: M·T numbers at once would not fit for a long series and a wide window.
    for block in np.array_split(windows.rows, max(1, len(windows) * order // 2**22)):
        lags = windows.values[block[:, None] + np.arange(-order, 0), 0] - centre
        sums_T += lags.sum(axis=0)
        products_TT += lags.T @ lags
        moments_T += lags.T @ (windows.values[block, 0] - centre)
    means_T = sums_T / len(windows)
    covariance_TT = products_TT - len(windows) * np.outer(means_T, means_T)
    coefficients_T, *_ = np.linalg.lstsq(covariance_TT, moments_T, rcond=1e-13)
    intercept = centre - coefficients_T @ (means_T + centre)
    return Autoregression(intercept=float(intercept), coefficients=tuple(coefficients_T.tolist()))
