import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextvalue import InvalidArgument
from nextvalue.times import parse_times, to_seconds

EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


@given(
    st.datetimes(
        min_value=datetime.datetime(1, 1, 3),  # noqa: DTZ001 (hypothesis wants it without)
        max_value=datetime.datetime(9999, 12, 29),  # noqa: DTZ001
        timezones=st.sampled_from([datetime.UTC, EAST]),
    )
)
def test_kinds_of_times_agree(time: datetime.datetime) -> None:
    """Rounded down to the second, before 1970 as after it."""
    utc = time.astimezone(datetime.UTC)
    days = utc.toordinal() - datetime.date(1970, 1, 1).toordinal()
    expected = days * 86_400 + utc.hour * 3600 + utc.minute * 60 + utc.second
    without_zone = utc.replace(tzinfo=None)
    assert to_seconds([time, without_zone], field="times").tolist() == [expected] * 2
    assert to_seconds(np.array([without_zone], "datetime64[us]"), field="times").tolist() == [expected]
    assert to_seconds([expected], field="times").tolist() == [expected]
    assert parse_times(f"{time.isoformat()},{without_zone.isoformat()};{expected}") == [expected] * 3


def test_the_shape_is_kept() -> None:
    noon = datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC)
    found = to_seconds([[noon, noon], [noon, noon]], field="times")
    assert found.shape == (2, 2)
    assert found.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64, ">i8"])
def test_integers_of_any_kind_are_seconds(dtype: Any) -> None:
    found = to_seconds(np.array([1, 2], dtype), field="times")
    assert found.tolist() == [1, 2]
    assert found.dtype == np.int64


def test_what_an_int64_cannot_say_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="times is of uint64"):
        to_seconds(np.array([2**63], np.uint64), field="times")


@pytest.mark.parametrize("separator", [",", ";", "\n", " , ", "\r\n"])
def test_times_in_a_text_are_separated_as_rows_are(separator: str) -> None:
    assert parse_times(separator.join(["1970-01-01", "60", "1970-01-01T00:02+00:00"]) + separator) == [0, 60, 120]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no times"),
        (" ;\n", "no times"),
        ("1970-13-01", "'1970-13-01' is neither a time"),
        ("1,1.5", "'1.5' is neither"),
        ("٣", "is neither"),
    ],
)
def test_what_is_no_time_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_times(text)
