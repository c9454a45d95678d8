import numpy as np
import pytest

from training.data.series import Times
from training.data.timeline import positions, spread
from training.errors import DataError


def dates(*texts: str) -> Times:
    return np.array(texts, dtype="datetime64[s]")


def places(times: Times, *, is_even: bool = True) -> list[int]:
    return list(positions(times, np.arange(1, len(times) + 1), "time column 'when'", is_even=is_even))


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (dates("2024-01-01", "2024-01-02", "2024-01-03"), [0, 1, 2]),
        (dates("2024-01-01T00:00", "2024-01-01T00:30", "2024-01-01T01:00", "2024-01-01T02:30"), [0, 1, 2, 5]),
        # A clock that is a little late.
        (dates("2024-01-01T00:00:00", "2024-01-01T00:05:01", "2024-01-01T00:10:00"), [0, 1, 2]),
        # Months are 28 to 31 days long; February is missing.
        (dates("2023-11-01", "2023-12-01", "2024-01-01", "2024-03-01"), [0, 1, 2, 4]),
        (dates("2023-12-31", "2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"), [0, 1, 2, 3, 4]),
        (dates("2023-01-01", "2023-04-01", "2023-07-01", "2024-01-01"), [0, 1, 2, 4]),
        (np.array([1700.0, 1701.0, 1703.0]), [0, 1, 3]),
        (dates("2024-01-01"), [0]),
        (dates(), []),
    ],
)
def test_a_row_stands_where_its_time_is(times: Times, expected: list[int]) -> None:
    assert places(times) == expected


def test_times_that_do_not_increase_are_refused_by_row() -> None:
    with pytest.raises(DataError, match=r"^time column 'when', row 3: 2024-01-02.* does not come after 2024-01-02"):
        places(dates("2024-01-01", "2024-01-02", "2024-01-02", "2024-01-03"))


def test_a_step_that_is_no_whole_number_of_steps_is_refused_by_row() -> None:
    with pytest.raises(DataError, match=r"^time column 'when', row 4: .* 1\.5 usual steps; .*--spacing any"):
        places(dates("2024-01-01T00", "2024-01-01T02", "2024-01-01T04", "2024-01-01T07", "2024-01-01T09"))


def test_any_spacing_counts_rows_and_still_wants_order() -> None:
    assert places(dates("2024-01-01", "2024-01-02", "2024-01-09"), is_even=False) == [0, 1, 2]
    with pytest.raises(DataError, match="strictly increase"):
        places(dates("2024-01-02", "2024-01-01"), is_even=False)


def test_missing_rows_get_the_times_between() -> None:
    times = dates("2024-01-01", "2024-01-02", "2024-01-05")
    assert (
        spread(times, np.array([0, 1, 4])).tolist()
        == dates("2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05").tolist()
    )


def test_a_gap_of_a_month_of_seconds_in_nanoseconds_stays_exact() -> None:
    """2.6 million places of a step of 2.6e15: their product is beyond 64 bits."""
    num_seconds = 30 * 86400
    times = np.array([0, 10**9, (num_seconds + 1) * 10**9]).astype("datetime64[ns]")
    found = spread(times, np.array([0, 1, num_seconds + 1]))
    assert (np.diff(found) == np.timedelta64(1, "s")).all()
    assert found[-1] == times[-1]


def test_missing_places_divide_a_step_that_they_do_not_fit() -> None:
    found = spread(np.array([0, 10]).astype("datetime64[s]"), np.array([0, 3]))
    assert found.astype(np.int64).tolist() == [0, 3, 6, 10]
