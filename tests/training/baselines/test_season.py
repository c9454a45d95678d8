"""Seasons that were put into series are found, and none where there is none."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.baselines.season import autocorrelation, check_season, find_season, highest_peak
from training.data import WindowSet
from training.data.rows import MemoryRows

HOUR = 3600
DAY = 24 * HOUR


def windows_of(
    values: NDArray[np.float64], spacing_seconds: float | None = None, *, window: int = 4, horizon: int = 1
) -> WindowSet:
    times = None if spacing_seconds is None else (np.arange(len(values)) * spacing_seconds).astype(np.int64)
    rows = MemoryRows(values[:, None], times)
    return WindowSet(values=rows, rows=np.arange(window, len(values) - horizon + 1), window=window, horizon=horizon)


def pattern(length: int, repeats: int, *, noise: float, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    values: NDArray[np.float64] = np.tile(rng.normal(0, 1, length), repeats) + rng.normal(0, noise, length * repeats)
    return values


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize(("rows", "period"), [(24, "day"), (168, "week")])
def test_with_dates_the_period_that_errs_least_is_taken(rows: int, period: str, horizon: int) -> None:
    """A pattern of a day also repeats every week, by which time it has drifted further."""
    values = pattern(rows, 24 * 70 // rows, noise=0.1)
    values += np.linspace(0, 4, len(values))
    found = find_season(windows_of(values, HOUR, horizon=horizon))
    assert found.rows == rows
    assert found.found_by == f"a {period} of rows 3600 s apart"


@pytest.mark.parametrize(
    ("spacing_seconds", "rows"), [(30.5 * DAY, 12), (91.3 * DAY, 4), (7 * DAY, 52), (DAY, 7), (HOUR, 24)]
)
def test_the_rows_of_a_season_follow_from_the_spacing(spacing_seconds: float, rows: int) -> None:
    assert find_season(windows_of(pattern(rows, 20, noise=0.1), spacing_seconds)).rows == rows


def test_a_period_that_is_no_whole_number_of_rows_is_no_candidate() -> None:
    """Of rows five days apart neither day nor week is; a year is 73 of them, and two must fit."""
    values = pattern(11, 12, noise=0.01)
    assert find_season(windows_of(values, 5 * DAY)).rows == 11
    assert find_season(windows_of(pattern(73, 3, noise=0.01), 5 * DAY)).rows == 73


@pytest.mark.parametrize("length", [7, 30, 365])
def test_without_dates_the_autocorrelation_finds_it(length: int) -> None:
    assert find_season(windows_of(pattern(length, 12, noise=0.3))).rows == length


def test_a_trend_hides_no_season() -> None:
    values = pattern(12, 30, noise=0.2) + 3.0 * np.arange(360)
    assert find_season(windows_of(values)).rows == 12


@pytest.mark.parametrize("seed", range(10))
def test_noise_and_a_random_walk_have_none(seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal(2000)
    for values in (noise, noise.cumsum()):
        found = find_season(windows_of(values))
        assert found.rows is None
        assert found.found_by.startswith("no season: the changes' autocorrelation has no peak above")


@pytest.mark.parametrize("values", [np.arange(100.0), np.arange(100.0) / 7, np.arange(6.0)])
def test_a_counting_series_has_none(values: NDArray[np.float64]) -> None:
    assert find_season(windows_of(values)).rows is None


def test_what_is_asked_for_is_taken() -> None:
    windows = windows_of(pattern(7, 20, noise=0.1))
    assert find_season(windows, 5).rows == 5
    assert find_season(windows, 0).rows is None
    assert find_season(windows, 0).found_by == "asked for"


@pytest.mark.parametrize("asked", [-1, 1])
def test_a_season_of_one_row_is_refused(asked: int) -> None:
    with pytest.raises(ValueError, match=rf"season is {asked}; it must be at least 2 rows, or 0 for none"):
        check_season(asked)


def test_the_autocorrelation_is_that_of_the_definition() -> None:
    values = np.random.default_rng(0).standard_normal(50)
    expected = [values[: 50 - lag] @ values[lag:] / (values @ values) for lag in range(8)]
    np.testing.assert_allclose(autocorrelation(values, 7), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "peak"), [([1, 0.5, 0.2, 0.4, 0.1, 0.3, 0], 3), ([1, 0.9, 0.8, 0.7], None), ([1, 0, 0.5, 0], 2)]
)
def test_a_peak_is_higher_than_its_neighbours(values: list[float], peak: int | None) -> None:
    assert highest_peak(np.array(values)) == peak
