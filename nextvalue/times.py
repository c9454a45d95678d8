"""Times as callers have them, as the wire's seconds since 1970-01-01T00:00:00Z."""

import datetime
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nextvalue.arrays import Int64Array
from nextvalue.errors import invalid

# Integers, numpy's datetime64 or Python's datetime.
Times = ArrayLike | Sequence[datetime.datetime] | Sequence[Sequence[datetime.datetime]]

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)


def to_seconds(times: Times, *, field: str) -> Int64Array:
    """Whole seconds, rounded down, of times of any of these kinds.

    Integers are such seconds already; `datetime64` is UTC; `datetime` is of its own time zone, or UTC without one.

    Raises:
        InvalidArgument: `times` is ragged, holds something else, or a time that is none.
    """
    try:
        array = np.asarray(times)
    except ValueError as error:
        raise invalid(f"{field} is not an array of times: {error}") from error
    if array.dtype.kind == "M":
        if np.isnat(array).any():
            index = tuple(int(i) for i in np.argwhere(np.isnat(array))[0])
            raise invalid(f"{field}{list(index)} is NaT: must be a time")
        return array.astype("datetime64[s]").astype(np.int64)
    if array.dtype.kind == "O":
        flat = [_seconds_of(value, f"{field}[{index}]") for index, value in enumerate(array.ravel())]
        return np.array(flat, np.int64).reshape(array.shape)
    if array.dtype.kind not in "iu" or (array.size and array.max() > np.iinfo(np.int64).max):
        raise invalid(f"{field} is of {array.dtype}: must be whole seconds since 1970 (int64), datetime64 or datetime")
    return array.astype(np.int64)


def _seconds_of(value: Any, field: str) -> int:
    if not isinstance(value, datetime.datetime):
        raise invalid(f"{field} is {value!r}: must be whole seconds since 1970 (int64), datetime64 or datetime")
    try:
        aware = value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
        return (aware - EPOCH) // SECOND
    except (TypeError, ValueError) as error:  # pandas.NaT says it is a datetime
        raise invalid(f"{field} is {value!r}: must be a time: {error}") from error


def parse_times(text: str) -> list[int]:
    """Seconds since 1970 from a text: such seconds, or ISO 8601 times, separated by commas, semicolons or line ends.

    Raises:
        ValueError: there are none, or one is neither.
    """
    words = re.split(r"[,;\n]", text)
    times = [_parse_time(word.strip()) for word in words if word.strip()]
    if not times:
        raise ValueError("no times")
    return times


def _parse_time(word: str) -> int:
    if re.fullmatch(r"[+-]?[0-9]+", word):
        return int(word)
    try:
        time = datetime.datetime.fromisoformat(word)
    except ValueError:
        raise ValueError(f"{word!r} is neither a time such as 2024-01-31T08:00 nor seconds since 1970") from None
    return _seconds_of(time, word)
