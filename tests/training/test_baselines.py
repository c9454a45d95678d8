import numpy as np
import pytest
from numpy.typing import NDArray

from training.baselines import fit_autoregression, last_value
from training.data import WindowSet

T = 3


def windows_of(values: NDArray[np.float64]) -> WindowSet:
    return WindowSet(values=values[:, None], rows=np.arange(T, len(values)), window=T)


def test_last_value_is_the_row_before_the_target() -> None:
    assert last_value(windows_of(np.array([1.0, 2, 4, 8, 16]))).tolist() == [4, 8]


def test_autoregression_finds_the_coefficients_a_series_was_made_with() -> None:
    rng = np.random.default_rng(0)
    values = list(rng.normal(100, 1, T))
    for _ in range(500):
        values.append(40 + 0.1 * values[-3] - 0.3 * values[-2] + 0.8 * values[-1])
        values[-1] += rng.normal(0, 1e-3)
    fitted = fit_autoregression(windows_of(np.array(values)))
    assert fitted.coefficients == pytest.approx((0.1, -0.3, 0.8), abs=0.05)


def test_autoregression_equals_least_squares_with_a_column_of_ones() -> None:
    values = np.random.default_rng(0).normal(1000, 3, 200).cumsum() / 100
    windows = windows_of(values)
    design = np.column_stack((np.ones(len(windows)), windows.windows()[:, :, 0]))
    expected = design @ np.linalg.lstsq(design, windows.targets())[0]
    np.testing.assert_allclose(fit_autoregression(windows).predict(windows), expected, rtol=1e-9)


def test_autoregression_copes_with_lags_that_depend_on_each_other() -> None:
    fitted = fit_autoregression(windows_of(np.arange(50.0)))
    beyond = windows_of(np.arange(1000.0, 1010.0))
    np.testing.assert_allclose(fitted.predict(beyond), beyond.targets(), rtol=1e-9)
