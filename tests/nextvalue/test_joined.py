"""What joining does to messages."""

from typing import Any

import numpy as np
import pytest

from nextvalue.joined import joined, kind_of, rows_of, size_of
from nextvalue.messages import PredictExchange
from nextvalue.results import Prediction
from nextvalue.v1 import nextvalue_pb2 as pb

# A call with everything a request can carry.
ALL: dict[str, Any] = {
    "horizon": 3,
    "version": "7",
    "future": np.arange(8.0).reshape(2, 2, 2),
    "times": np.arange(8).reshape(2, 4),
    "series": ["ü", "b"],
    "intervals": [0.5, 0.9],
    "rollout": "carry",
}
PLAIN: dict[str, Any] = {"horizon": 1, "version": ""}
WINDOWS = np.arange(24.0).reshape(2, 4, 3)


def call(windows: Any = WINDOWS, **options: Any) -> PredictExchange:
    return PredictExchange.start("demo", windows, **options)


def stacked(*arrays: Any) -> Any:
    return np.concatenate(arrays)


def test_joined_requests_are_the_request_of_all_rows() -> None:
    """Byte for byte what one caller would have sent for all of them."""
    other = ALL | {"future": -ALL["future"][:1], "times": ALL["times"][1:] + 9, "series": ["c"]}
    together = ALL | {key: stacked(ALL[key], other[key]) for key in ("future", "times")} | {"series": ["ü", "b", "c"]}
    both = joined([call(**ALL), call(-WINDOWS[:1], **other)])
    assert both.request == call(stacked(WINDOWS, -WINDOWS[:1]), **together).request
    assert joined([call(**PLAIN)] * 2).request == call(stacked(WINDOWS, WINDOWS), **PLAIN).request
    alone = call(**ALL)
    assert joined([alone]) is alone
    singles = joined([call(WINDOWS[0, :, 0], **PLAIN), call(WINDOWS[1, :, 0], **PLAIN)])
    assert (singles.num_windows, singles.one_window) == (2, False)


def test_what_a_caller_does_to_its_array_later_is_not_sent() -> None:
    windows = WINDOWS.astype(np.float32)
    asked = call(windows, **PLAIN)
    windows[:] = 0
    assert asked.request == call(**PLAIN).request


def test_no_field_is_forgotten() -> None:
    """A field that the .proto gains has to be joined, and to tell kinds apart."""
    full = call(**ALL)
    fields = [field.name for field in pb.PredictRequest.DESCRIPTOR.fields]
    assert [field.name for field, _ in full.request.ListFields()] == fields
    assert [field.name for field, _ in joined([full, full]).request.ListFields()] == fields
    answered = {"model", "version", "predictions", "queue_time_ns", "run_time_ns", "lower", "upper", "levels"}
    assert {field.name for field in pb.PredictResponse.DESCRIPTOR.fields} == answered | {"num_unknown_series"}


def test_calls_that_differ_in_more_than_their_rows_are_of_different_kinds() -> None:
    kinds = {
        kind_of(call(windows, **options))
        for windows, options in [
            (WINDOWS, ALL),
            (WINDOWS, ALL | {"version": ""}),
            (WINDOWS, ALL | {"rollout": "sliding"}),
            (WINDOWS, ALL | {"horizon": 1, "future": None}),
            (WINDOWS, ALL | {"horizon": 2, "future": None}),
            (WINDOWS, ALL | {"future": None}),
            (WINDOWS, ALL | {"times": None}),
            (WINDOWS, ALL | {"series": None}),
            (WINDOWS, ALL | {"intervals": None}),
            (WINDOWS, ALL | {"intervals": True}),
            (WINDOWS, ALL | {"intervals": [0.9, 0.5]}),
            (WINDOWS[:, 1:], PLAIN),
            (WINDOWS[:, :, :1], PLAIN),
            (WINDOWS[:, :, 0], PLAIN),
        ]
    }
    assert len(kinds) == 14
    assert kind_of(PredictExchange.start("other", WINDOWS, **PLAIN)) != kind_of(call(**PLAIN))


def test_calls_that_differ_only_in_their_rows_are_of_one_kind() -> None:
    fewer = {"future": ALL["future"][:1], "times": ALL["times"][:1], "series": 8}
    assert kind_of(call(**ALL)) == kind_of(call(-WINDOWS[:1], **ALL | fewer))
    assert kind_of(call([1.0, 2.0], **PLAIN)) == kind_of(call([[1.0, 3.0], [5.0, 6.0]], **PLAIN))


@pytest.mark.parametrize("options", [ALL, PLAIN])
def test_the_size_is_that_of_the_message_or_a_little_more(options: dict[str, Any]) -> None:
    many = joined([call(**options)] * 500)
    num_bytes = many.request.ByteSize()
    assert 0.95 * num_bytes < size_of(many) < 1.2 * num_bytes


def test_the_size_is_that_of_the_answer_if_that_is_larger() -> None:
    assert size_of(call([1.0], horizon=1000, version="")) == 4000
    assert size_of(call([1.0], horizon=1000, version="", intervals=[0.5, 0.9])) == 20_000


def test_rows_are_given_in_memory_of_their_own() -> None:
    """A caller that keeps its row would keep those of a thousand others, and could write into them."""
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    lower, upper = values[:, :, None] - 1, values[:, :, None] + 1
    whole = Prediction(
        model="m", version=3, values=values, queue_seconds=1.0, run_seconds=2.0, lower=lower, upper=upper, levels=(0.9,)
    )
    two = rows_of(whole, 1, 3, one_window=False, num_unknown_series=1)
    one = rows_of(whole, 3, 4, one_window=True, num_unknown_series=0)
    assert (two.values.tolist(), one.values.tolist()) == ([[3, 4, 5], [6, 7, 8]], [9, 10, 11])
    assert two.lower is not None
    assert one.upper is not None
    assert (two.lower.shape, one.upper.tolist()) == ((2, 3, 1), [[10], [11], [12]])
    assert (two.num_unknown_series, one.levels, one.queue_seconds, one.run_seconds) == (1, (0.9,), 1.0, 2.0)
    assert not any(np.shares_memory(each, values) for each in (two.values, one.values))
