import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from training.baselines import Baselines, fit_baselines
from training.baselines.origins import num_series_of, reaching, sampled, series_of, up_to
from training.data import Parts, WindowSet

T, FIT, VALIDATION = 4, 700, 1000


def parts_of(values: NDArray[np.float64], *, window: int = T, horizon: int = 1) -> Parts:
    def part(start: int, stop: int) -> WindowSet:
        rows = np.arange(max(start, window), stop - horizon + 1)
        return WindowSet(values=values[:, None], rows=rows, window=window, horizon=horizon)

    return Parts(part(0, FIT), part(FIT, VALIDATION), part(VALIDATION, len(values)))


def noisy_waves(count: int = 1400) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    values: NDArray[np.float64] = 10 * np.sin(np.arange(count) * 2 * np.pi / 12) + rng.normal(0, 1, count)
    return values


def test_all_are_there_in_their_order() -> None:
    baselines = fit_baselines(parts_of(noisy_waves()), levels=(0.5, 0.9))
    names = ["last value", "seasonal naive (12)", "AR(4)", "AR(48)"]
    assert [forecaster.name for forecaster in baselines.forecasters()] == names
    assert sorted(baselines.margins) == sorted(names)
    assert baselines.left_out == ()
    assert msgspec.json.decode(msgspec.json.encode(baselines), type=Baselines) == baselines


def test_one_autoregression_is_enough_for_a_window_of_48() -> None:
    baselines = fit_baselines(parts_of(noisy_waves(), window=48))
    assert [each.name for each in baselines.autoregressions] == ["AR(48)"]
    assert baselines.margins == {}


def test_nothing_is_taken_from_the_test_part() -> None:
    values = noisy_waves()
    before = fit_baselines(parts_of(values, horizon=3), levels=(0.9,))
    values[VALIDATION:] = 1e6
    assert fit_baselines(parts_of(values, horizon=3), levels=(0.9,)) == before


def test_the_naive_error_is_that_of_the_last_value_on_the_part_to_fit_on() -> None:
    values = noisy_waves()
    expected = np.abs(np.diff(values))[T - 1 : FIT - 1].mean()
    assert fit_baselines(parts_of(values)).naive_error == pytest.approx(expected)


def test_margins_hold_their_share_of_validation_and_test() -> None:
    parts = parts_of(noisy_waves(4000), horizon=3)
    baselines = fit_baselines(parts, levels=(0.5, 0.9))
    for forecaster in baselines.forecasters():
        for windows, tolerance in ((parts.validation, 0.01), (parts.test, 0.08)):
            said = forecaster.predict(windows)
            assert said.lower is not None
            assert said.upper is not None
            targets = windows.targets()[..., None]
            coverage = ((said.lower <= targets) & (targets <= said.upper)).mean(axis=(0, 1))
            np.testing.assert_allclose(coverage, [0.5, 0.9], atol=tolerance)


def test_a_level_that_validation_is_too_short_for_leaves_a_baseline_without_intervals() -> None:
    """AR(48) has the 300 windows of the part behind it; here the part is 8 values, and 0.9 takes 9."""
    values = noisy_waves()
    parts = parts_of(values)
    short = WindowSet(values=values[:, None], rows=np.arange(FIT, FIT + 8), window=T)
    baselines = fit_baselines(Parts(parts.fit, short, parts.test), levels=(0.9,))
    assert baselines.margins == {}
    assert len(baselines.forecasters()) == 4


def test_who_cannot_be_fitted_is_named_with_the_reason() -> None:
    values = np.random.default_rng(0).standard_normal(80)

    def part(start: int, stop: int) -> WindowSet:
        return WindowSet(values=values[:, None], rows=np.arange(start, stop), window=T)

    left_out = fit_baselines(Parts(part(T, 60), part(60, 70), part(70, 80))).left_out
    assert [each.name for each in left_out] == ["seasonal naive", "AR(48)"]
    assert left_out[0].reason.startswith("no season: ")
    assert left_out[1].reason == "the fit part has too few values with 48 rows in front of them"


def two_series() -> WindowSet:
    """Rows 0 to 9 and 10 to 29, windows of 2, two targets each, a gap at row 20."""
    rows = np.array([*range(2, 9), *range(12, 19), *range(23, 29)])
    return WindowSet(
        values=np.arange(30.0)[:, None], rows=rows, window=2, horizon=2, series_starts=np.array([0, 10, 30])
    )


def test_windows_with_enough_rows_of_their_own_series_in_front() -> None:
    assert reaching(two_series(), 5).rows.tolist() == [5, 6, 7, 8, 15, 16, 17, 18, *range(23, 29)]
    assert reaching(two_series(), 12).rows.tolist() == [*range(23, 29)]
    assert reaching(two_series(), 1).rows.tolist() == two_series().rows.tolist()


def test_a_longer_horizon_ends_where_the_values_end() -> None:
    longer = up_to(two_series(), 4)
    assert longer.rows.tolist() == [*range(2, 7), *range(12, 17), *range(23, 27)]
    assert longer.targets()[-1].tolist() == [26, 27, 28, 29]
    assert up_to(two_series(), 1).rows.tolist() == two_series().rows.tolist()
    assert up_to(two_series(), 1).targets().shape == (20, 1)


def test_samples_know_their_series() -> None:
    sample = sampled(two_series(), 3)
    assert sample.rows.tolist() == [2, 15, 28]
    assert series_of(sample, sample.rows).tolist() == [0, 1, 1]
    assert num_series_of(sample) == 2
