import numpy as np
import pytest
from numpy.typing import NDArray

from training.baselines import Autoregression, origins
from training.baselines.autoregression import fit_autoregression
from training.data import WindowSet

T = 3


def windows_of(values: NDArray[np.float64], *, window: int = T, horizon: int = 1) -> WindowSet:
    rows = np.arange(window, len(values) - horizon + 1)
    return WindowSet(values=values[:, None], rows=rows, window=window, horizon=horizon)


def fitted(windows: WindowSet, order: int) -> Autoregression:
    found = fit_autoregression(windows, order)
    assert found is not None
    return found


def walk(count: int, seed: int = 0) -> NDArray[np.float64]:
    values: NDArray[np.float64] = 50 + np.random.default_rng(seed).standard_normal(count).cumsum()
    return values


def test_it_finds_the_coefficients_a_series_was_made_with() -> None:
    rng = np.random.default_rng(0)
    values = list(rng.normal(100, 1, T))
    for _ in range(500):
        values.append(40 + 0.1 * values[-3] - 0.3 * values[-2] + 0.8 * values[-1])
        values[-1] += rng.normal(0, 1e-3)
    assert fitted(windows_of(np.array(values)), T).coefficients == pytest.approx((0.1, -0.3, 0.8), abs=0.05)


@pytest.mark.parametrize("order", [2, 3, 7])
def test_it_equals_least_squares_with_a_column_of_ones_whatever_the_window(order: int) -> None:
    """Of a longer order than the window, the first windows have too few rows in front."""
    values = walk(200)
    windows = windows_of(values)
    rows = np.arange(max(order, T), len(values))
    design = np.column_stack([np.ones(len(rows)), *(values[rows - order + k] for k in range(order))])
    expected = np.linalg.lstsq(design, values[rows])[0]
    found = fitted(windows, order)
    assert found.reach == order
    np.testing.assert_allclose(found.coefficients, expected[1:], atol=1e-5)
    last = WindowSet(values=values[:, None], rows=rows, window=T)
    np.testing.assert_allclose(found.predict(last).next[:, 0], design @ expected, rtol=1e-9)


def test_rows_in_front_never_come_from_another_series() -> None:
    """Two series end to end: of the second, only the windows from its own seventh row on."""
    values = np.concatenate((walk(60), 500 + walk(60, seed=1)))
    both = WindowSet(
        values=values[:, None],
        rows=np.concatenate((np.arange(T, 60), np.arange(60 + T, 120))),
        window=T,
        series_starts=np.array([0, 60, 120]),
    )
    order = 7
    rows = np.concatenate((np.arange(order, 60), np.arange(60 + order, 120)))
    design = np.column_stack([np.ones(len(rows)), *(values[rows - order + k] for k in range(order))])
    np.testing.assert_allclose(
        fitted(both, order).coefficients, np.linalg.lstsq(design, values[rows])[0][1:], rtol=1e-6
    )


def test_it_copes_with_lags_that_depend_on_each_other() -> None:
    found = fitted(windows_of(np.arange(50.0)), T)
    beyond = windows_of(np.arange(1000.0, 1010.0), horizon=4)
    np.testing.assert_allclose(found.predict(beyond).next, beyond.targets(), rtol=1e-9)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = windows_of(walk(500))
    whole = fitted(windows, 5)
    monkeypatch.setattr(origins, "NUMBERS_AT_ONCE", 64)
    np.testing.assert_allclose(fitted(windows, 5).coefficients, whole.coefficients, atol=1e-6)


def test_further_ahead_it_goes_on_from_what_it_said() -> None:
    """1 + 2a - b, by hand, from (a, b) = (1, 2): the older value has the first coefficient."""
    two = Autoregression(intercept=1.0, coefficients=(-1.0, 2.0))
    windows = WindowSet(values=np.array([[1.0], [2], [0], [0], [0]]), rows=np.array([2]), window=2, horizon=3)
    assert two.predict(windows).next.tolist() == [[4.0, 7.0, 11.0]]


def test_there_is_none_where_there_are_no_more_values_than_coefficients() -> None:
    assert fit_autoregression(windows_of(walk(2 * 10 + 1)), 10) is None
    assert fit_autoregression(windows_of(walk(2 * 10 + 2)), 10) is not None
