"""What may go with windows, and come with predictions: times, series, intervals."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from export.artifact.manifest import Intervals, Manifest, Scaling
from server.errors import InvalidRequest
from server.validation import (
    FIRST_TIME,
    LAST_TIME,
    check_levels,
    check_reply_size,
    check_series,
    check_time_seconds,
    check_times_go_on,
)
from tests.server.test_validation import ONE, WINDOW

# ---- times ----

CLOCK = msgspec.structs.replace(ONE, calendar=["day", "week"])


def times(*rows: list[int]) -> NDArray[np.int64]:
    return np.array(rows, np.int64)


@pytest.mark.parametrize(
    "good", [times([0, 1, 2, 3]), times([-5, 0, 7, 8], [FIRST_TIME, 0, 1, LAST_TIME]), times([5, 6, 7, 10**9])]
)
def test_growing_times_are_taken_where_there_is_a_calendar(good: NDArray[np.int64]) -> None:
    assert check_time_seconds("time_seconds", good, CLOCK, len(good)) is good


def test_times_are_demanded_by_name() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_time_seconds("time_seconds", None, CLOCK, 2)
    said = "time_seconds is missing; the model has a calendar (day, week) and needs the times as [2, 4]"
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (times([1, 2, 3]), "time_seconds.shape is [1, 3]; this call needs [2, 4]"),
        (times([1, 2, 3, 4]), "time_seconds.shape is [1, 4]; this call needs [2, 4]"),
        (times([1, 2, 3, 4], [1, 2, 2, 3]), "time_seconds[1, 2] is 2; it must be above the time before it, 2"),
        (times([4, 3, 2, 1], [1, 2, 3, 4]), "time_seconds[0, 1] is 3; it must be above the time before it, 4"),
        (
            times([1, 2, 3, 4], [1, 2, 3, 1_706_702_400_000]),
            f"time_seconds[1, 3] is 1706702400000; seconds since 1970 are from {FIRST_TIME} to {LAST_TIME}",
        ),
        (times([1, 2, 3, 4], [FIRST_TIME - 1, 2, 3, 4]), f"time_seconds[1, 0] is {FIRST_TIME - 1}; seconds since"),
        (times([1, 2, 3, 4], [-(2**63), 2, 3, 2**63 - 1]), "time_seconds[1, 0] is -9223372036854775808; seconds"),
    ],
)
def test_times_that_make_no_sense(bad: NDArray[np.int64], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_time_seconds("time_seconds", bad, CLOCK, 2)
    assert str(caught.value).startswith(said)


@given(
    found=arrays.arrays(np.int64, st.just((3, WINDOW)), elements=st.integers(0, 4) | st.integers(-(2**63), 2**63 - 1))
)
def test_times_are_growing_and_within_range_or_refused(found: NDArray[np.int64]) -> None:
    rows = found.tolist()
    if all(row[0] >= FIRST_TIME and row[-1] <= LAST_TIME and row == sorted(set(row)) for row in rows):
        assert check_time_seconds("t", found, CLOCK, 3) is found
    else:
        with pytest.raises(InvalidRequest, match=r"^t\["):
            check_time_seconds("t", found, CLOCK, 3)


def test_a_model_without_a_calendar_takes_no_times() -> None:
    assert check_time_seconds("time_seconds", None, ONE, 2) is None
    with pytest.raises(InvalidRequest, match=r"shape is \[1, 4\]; the model has no calendar and takes none"):
        check_time_seconds("time_seconds", times([1, 2, 3, 4]), ONE, 1)


def test_one_time_cannot_be_continued() -> None:
    single = msgspec.structs.replace(CLOCK, window=1, direct_horizon=2)
    check_times_go_on("horizon", 2, single)
    check_times_go_on("horizon", 3, CLOCK)
    check_times_go_on("horizon", 3, msgspec.structs.replace(single, calendar=[]))
    with pytest.raises(InvalidRequest) as caught:
        check_times_go_on("horizon", 3, single)
    said = "horizon is 3; it must be from 1 to 2: the time after a window of 1 value is not known"
    assert str(caught.value) == said


# ---- series ----

SCALED = msgspec.structs.replace(ONE, scaling=Scaling(kind="series", num_series=2))


def test_series_are_taken_as_ids_or_numbers() -> None:
    ids, numbers = ["a", "b"], np.array([[0], [7]])
    assert check_series("series", ids, SCALED, 2) is ids
    assert check_series("series", numbers, SCALED, 2) is numbers


@pytest.mark.parametrize(
    ("series", "said"),
    [
        (None, "series is missing; the model is scaled by series and needs that of each of 2 windows"),
        (["a"], "series is given for 1 windows; this call has 2"),
        (["a", "b", "c"], "series is given for 3 windows; this call has 2"),
        (np.zeros((3, 1), np.int64), "series is given for 3 windows; this call has 2"),
        (np.zeros(2, np.int64), "series.shape is [2]; this call needs [2, 1]"),
        (np.zeros((2, 2), np.int64), "series.shape is [2, 2]; this call needs [2, 1]"),
        (np.zeros((2, 1, 1), np.int64), "series.shape is [2, 1, 1]; this call needs [2, 1]"),
    ],
)
def test_series_that_do_not_fit_the_windows(series: list[str] | NDArray[np.int64] | None, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_series("series", series, SCALED, 2)
    assert str(caught.value) == said


@pytest.mark.parametrize("kind", ["fit", "window"])
@pytest.mark.parametrize("series", [["a"], np.zeros((1, 1), np.int64)])
def test_other_scalings_take_no_series(kind: str, series: list[str] | NDArray[np.int64]) -> None:
    other = msgspec.structs.replace(ONE, scaling=msgspec.convert({"kind": kind}, Scaling))
    assert check_series("series", None, other, 1) is None
    with pytest.raises(InvalidRequest, match="series is given for 1 windows; the model takes none"):
        check_series("series", series, other, 1)


# ---- intervals ----

SURE = msgspec.structs.replace(ONE, direct_horizon=3, intervals=Intervals(kind="conformal", levels=[0.5, 0.9, 0.95]))


@pytest.mark.parametrize(
    ("levels", "places"),
    [
        (None, []),
        ([], [0, 1, 2]),
        ([0.9], [1]),
        ([0.95, 0.5], [2, 0]),
        ([float(np.float32(0.9))], [1]),
    ],
)
def test_levels_are_found_among_the_models(levels: list[float] | None, places: list[int]) -> None:
    assert check_levels("intervals", levels, SURE, "horizon", 3) == places


@pytest.mark.parametrize("horizon", [1, 3, 4])
def test_without_intervals_nothing_is_checked(horizon: int) -> None:
    for manifest in (ONE, SURE):
        assert check_levels("intervals", None, manifest, "horizon", horizon) == []


@pytest.mark.parametrize(
    ("manifest", "levels", "horizon", "said"),
    [
        (ONE, [], 1, "intervals is asked for; the model has none"),
        (SURE, [], 4, "horizon is 4; with intervals it must be from 1 to 3, what one run gives"),
        (SURE, [0.8], 1, "intervals.levels[0] is 0.8; the model has 0.5, 0.9, 0.95"),
        (SURE, [0.9, float("nan")], 1, "intervals.levels[1] is nan; the model has 0.5, 0.9, 0.95"),
        (SURE, [0.9] * 4, 1, "intervals.levels is 4 levels; the model has 3"),
    ],
)
def test_levels_that_there_are_not(manifest: Manifest, levels: list[float], horizon: int, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_levels("intervals", levels, manifest, "horizon", horizon)
    assert str(caught.value) == said


def test_both_ends_count_towards_the_size_of_a_reply() -> None:
    check_reply_size("horizon", 10, 3, 4 * 10 * 3 * 5, num_levels=2)
    with pytest.raises(InvalidRequest, match="horizon is 3; for 10 windows the reply would have 600 bytes"):
        check_reply_size("horizon", 10, 3, 4 * 10 * 3 * 5 - 1, num_levels=2)
