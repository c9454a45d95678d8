"""Times, series and intervals, with each client: what goes with the windows and what comes with the predictions."""

import datetime
from typing import Any

import numpy as np
import pytest

from nextvalue import InvalidArgument, ServerError
from nextvalue.v1 import nextvalue_pb2 as pb
from tests.nextvalue.conftest import Ask
from tests.nextvalue.fake import FakeServer, expected_ends, expected_values

WINDOWS = [[1.0, 2.0], [30.0, 40.0], [500.0, 600.0]]


async def test_nothing_of_it_is_sent_unless_given(ask: Ask, fake: FakeServer) -> None:
    prediction = await ask("predict", "demo", WINDOWS, intervals=False)
    request = fake.requests[0]
    assert not any(request.HasField(field) for field in ("time_seconds", "intervals"))
    assert not request.series
    assert (prediction.lower, prediction.upper, prediction.levels) == (None, None, None)
    assert prediction.num_unknown_series == 0


async def test_times_of_each_window_or_of_all(ask: Ask, fake: FakeServer) -> None:
    times = np.arange(6).reshape(3, 2) * 3600
    await ask("predict", "demo", WINDOWS, times=times)
    await ask("predict", "demo", WINDOWS, times=times[1])
    await ask("predict", "demo", WINDOWS[0], times=times[2])
    expected = [times, np.tile(times[1], (3, 1)), times[2:]]
    for request, sent in zip(fake.requests, expected, strict=True):
        assert request.time_seconds == pb.IntArray(shape=sent.shape, raw_values=sent.astype("<i8").tobytes())


async def test_times_as_people_have_them(ask: Ask, fake: FakeServer) -> None:
    noon = datetime.datetime(2024, 1, 31, 12)  # noqa: DTZ001 (without a zone on purpose)
    await ask("predict", "demo", [1.0, 2.0], times=[noon, noon + datetime.timedelta(hours=1)])
    await ask("predict", "demo", [1.0, 2.0], times=np.array(["2024-01-31T12:00", "2024-01-31T13:00"], "datetime64[m]"))
    sent = [np.frombuffer(request.time_seconds.raw_values, "<i8").tolist() for request in fake.requests]
    assert sent == [[1_706_702_400, 1_706_706_000]] * 2


@pytest.mark.parametrize(
    ("series", "sent"),
    [
        ("shop-a", ["shop-a"] * 3),
        (7, ["7"] * 3),
        (["shop-a", "7", "ü, ☕"], ["shop-a", "7", "ü, ☕"]),
        (np.array([7, 8, 9]), ["7", "8", "9"]),
        (np.array(["a", "b", "c"]), ["a", "b", "c"]),
    ],
)
async def test_series_of_each_window_or_of_all(ask: Ask, fake: FakeServer, series: Any, sent: list[str]) -> None:
    prediction = await ask("predict", "demo", WINDOWS, series=series)
    assert list(fake.requests[0].series) == sent
    assert prediction.num_unknown_series == sum(name not in ("shop-a", "7") for name in sent)


@pytest.mark.parametrize(
    ("intervals", "asked", "levels"),
    [
        (True, [], (0.5, 0.9)),
        (0.9, [0.9], (0.9,)),
        ([0.9, 0.5], [0.9, 0.5], (0.9, 0.5)),
        (np.array([0.8]), [0.8], (0.8,)),
    ],
)
async def test_intervals_come_with_the_predictions(
    ask: Ask, fake: FakeServer, intervals: Any, asked: list[float], levels: tuple[float, ...]
) -> None:
    windows = np.array(WINDOWS, np.float32)
    prediction = await ask("predict", "demo", windows, horizon=4, intervals=intervals)
    assert list(fake.requests[0].intervals.levels) == asked
    lower, upper = expected_ends(expected_values(windows, 4), levels)
    np.testing.assert_array_equal(prediction.lower, lower, strict=True)
    np.testing.assert_array_equal(prediction.upper, upper, strict=True)
    assert prediction.levels == levels


async def test_intervals_of_one_window_have_its_shape(ask: Ask) -> None:
    prediction = await ask("predict", "demo", [1.0, 2.0], horizon=3, intervals=True)
    assert prediction.values.shape == (3,)
    assert prediction.lower.shape == prediction.upper.shape == (3, 2)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"times": [1, 2, 3]}, r"times has shape \[3\]: windows of shape \[3, 2\] need \[N, T\] = \[3, 2\], or \[T\]"),
        ({"times": [[1, 2]]}, r"times has shape \[1, 2\]"),
        ({"times": [1.5, 2.5]}, "times is of float64: must be whole seconds since 1970"),
        ({"times": [None, None]}, r"times\[0\] is None: must be whole seconds"),
        ({"times": [[1, 2], [3]]}, "times is not an array of times"),
        ({"times": np.array(["NaT", "NaT"], "datetime64[s]")}, r"times\[0\] is NaT: must be a time"),
        ({"series": ["a", "b"]}, "series has 2 ids: must be one for all windows, or one for each of 3"),
        ({"series": ["a", "b", 0.5]}, r"series\[2\] is 0.5: must be the id of a series, text or an integer"),
        ({"series": True}, r"series\[0\] is True"),
        ({"series": 0.5}, "series is 0.5: must be the id of a series, or a list of ids"),
        ({"intervals": []}, r"intervals is \[\]: must be True for all the model has, or levels between 0 and 1"),
        ({"intervals": 90}, "intervals is 90"),
        ({"intervals": [0.9, 1.0]}, r"intervals is \[0.9, 1.0\]"),
        ({"intervals": "all"}, "intervals is 'all'"),
        ({"intervals": [[0.5], [0.9]]}, "intervals is "),
    ],
)
async def test_what_no_model_could_take_is_refused_before_sending(
    ask: Ask, fake: FakeServer, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        await ask("predict", "demo", WINDOWS, **arguments)
    assert not fake.requests


def reply(**fields: Any) -> pb.PredictResponse:
    ends = pb.FloatArray(shape=[1, 1, 2], values=[0, 1])
    good: dict[str, Any] = {"predictions": pb.FloatArray(shape=[1, 1], values=[1]), "lower": ends, "upper": ends}
    return pb.PredictResponse(**{**good, "levels": [0.5, 0.9], **fields})


@pytest.mark.parametrize(
    ("sent", "intervals", "complaint"),
    [
        (reply(levels=[]), True, r"levels are \[\]: asked for all"),
        (reply(), 0.9, r"levels are \[0.5, 0.9\]: asked for \[0.9\]"),
        (reply(lower=None), True, "unusable reply: lower"),
        (
            reply(upper=pb.FloatArray(shape=[1, 2], values=[1, 2])),
            True,
            r"upper has shape \[1, 2\]: asked for \[1, 1, 2\]",
        ),
    ],
)
async def test_intervals_that_do_not_fit_are_the_servers_error(
    ask: Ask, fake: FakeServer, sent: pb.PredictResponse, intervals: Any, complaint: str
) -> None:
    fake.reply = sent
    with pytest.raises(ServerError, match=complaint):
        await ask("predict", "demo", [1.0, 2.0], intervals=intervals)
