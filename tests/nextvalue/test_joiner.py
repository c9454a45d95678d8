"""Joined calls of an `AsyncClient`: what callers see, and what goes over the wire."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from nextvalue import (
    AsyncClient,
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    NextvalueError,
    NotFound,
    Overloaded,
    Prediction,
    RetryPolicy,
    ServerError,
    Unavailable,
    joiner,
)
from nextvalue.arrays import unpack
from nextvalue.v1 import nextvalue_pb2 as pb
from tests.nextvalue.conftest import QUICK
from tests.nextvalue.fake import Failure, FakeServer, expected_ends, expected_values

BAD = 1e9  # the value that a fake refuses, where a test tells it to
LONG = 60.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls wait for company as long as a slow machine needs to bring it."""
    monkeypatch.setattr(joiner, "MAX_WAIT_SECONDS", LONG)


@asynccontextmanager
async def occupied(fake: FakeServer, client: AsyncClient, **options: Any) -> AsyncIterator[None]:
    """A call is in flight: others like it wait, until the block has ended."""
    fake.hold()
    first = asyncio.create_task(client.predict("demo", [0.0], timeout_seconds=LONG, **options))
    await asyncio.to_thread(fake.arrived.wait)
    yield
    fake.release()
    await first


def start(client: AsyncClient, value: float, **options: Any) -> "asyncio.Task[Prediction]":
    options = {"timeout_seconds": LONG} | options
    return asyncio.create_task(client.predict("demo", [value], **options))


async def turn() -> None:
    """Lets tasks begin; a few turns of the loop, no time to speak of."""
    for _ in range(5):
        await asyncio.sleep(0)


async def arrived(fake: FakeServer, num_messages: int) -> None:
    """Polls until the fake has seen so many."""
    give_up = time.monotonic() + LONG
    while len(fake.requests) < num_messages:
        assert time.monotonic() < give_up
        await asyncio.sleep(0.01)


def batches(fake: FakeServer) -> list[int]:
    """Windows in each message that arrived."""
    return [request.windows.shape[0] for request in fake.requests]


def refuse_bad(request: pb.PredictRequest, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> Failure | None:
    """Names the first window that has the bad value, as a server does."""
    rows = np.flatnonzero((unpack(request.windows, field="windows") == BAD).any(axis=1))
    return Failure(code, f"windows[{rows[0]}] is too large") if rows.size else None


# Joining


async def test_calls_of_one_turn_cost_one_message_and_keep_their_answers_apart(fake: FakeServer) -> None:
    sizes = np.random.default_rng(0).integers(1, 5, 32)
    asked = [np.random.default_rng(n).normal(size=(size, 5)).astype(np.float32) for n, size in enumerate(sizes)]
    async with AsyncClient(fake.target) as client:
        predictions = await asyncio.gather(*(client.predict("demo", windows, horizon=2) for windows in asked))
    for windows, prediction in zip(asked, predictions, strict=True):
        np.testing.assert_array_equal(prediction.values, expected_values(windows, 2), strict=True)
        assert (prediction.version, prediction.queue_seconds, prediction.run_seconds) == (2, 0.0015, 0.25)
    assert batches(fake) == [sum(sizes)]


async def test_calls_made_while_one_is_in_flight_go_when_it_returns(fake: FakeServer) -> None:
    async with AsyncClient(fake.target) as client:
        async with occupied(fake, client):
            calls = []
            for n in range(5):
                calls.append(start(client, float(n)))
                await turn()
        assert [(await call).values.tolist() for call in calls] == [[n + 1.0] for n in range(5)]
    assert batches(fake) == [1, 5]


async def test_who_asks_again_when_answered_goes_with_those_who_waited(fake: FakeServer) -> None:
    async def twice(client: AsyncClient, value: float) -> None:
        for step in range(2):
            assert (await start(client, value + step)).values.tolist() == [value + step + 1]

    async with AsyncClient(fake.target) as client:
        async with occupied(fake, client):
            callers = [asyncio.create_task(twice(client, 10.0 * n)) for n in range(4)]
            await turn()
        await asyncio.gather(*callers)
    assert batches(fake) == [1, 4, 4]


async def test_only_calls_of_a_kind_are_joined(fake: FakeServer) -> None:
    windows = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
    kinds: list[dict[str, Any]] = [
        {},
        {"horizon": 2},
        {"horizon": 2, "rollout": "carry"},
        {"version": 7},
        {"intervals": True},
        {"intervals": 0.9},
        {"times": [1, 2, 3]},
        {"series": "shop-a"},
        {"horizon": 3, "future": np.zeros((2, 2, 1))},
    ]
    async with AsyncClient(fake.target) as client:
        calls = [client.predict("demo", windows + n, **kind) for n in range(3) for kind in kinds]
        predictions = await asyncio.gather(*calls)
    for place, prediction in enumerate(predictions):
        n, kind = place // len(kinds), kinds[place % len(kinds)]
        values = expected_values(windows + np.float32(n), kind.get("horizon", 1))
        np.testing.assert_array_equal(prediction.values, values, strict=True)
        assert prediction.version == kind.get("version", 2)
        if "intervals" in kind:
            assert prediction.lower is not None
            assert prediction.upper is not None
            lower, upper = expected_ends(values, [0.5, 0.9] if kind["intervals"] is True else [0.9])
            np.testing.assert_array_equal(prediction.lower, lower, strict=True)
            np.testing.assert_array_equal(prediction.upper, upper, strict=True)
    assert batches(fake) == [6] * len(kinds)


async def test_joining_can_be_switched_off(fake: FakeServer) -> None:
    async with AsyncClient(fake.target, max_joined_windows=0) as client:
        await asyncio.gather(*(start(client, float(n)) for n in range(8)))
    assert batches(fake) == [1] * 8


@pytest.mark.parametrize("options", [{"max_joined_windows": -1}, {"max_joined_in_flight": 0}])
async def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=f"{name} is {value}: must be at least"):
        AsyncClient("127.0.0.1:1", **options)  # type: ignore[arg-type]  # keywords of several types


async def test_messages_are_bounded_and_a_call_that_fills_one_goes_at_once(fake: FakeServer) -> None:
    async with AsyncClient(fake.target, max_joined_windows=4) as client:
        await asyncio.gather(*(start(client, float(n)) for n in range(10)))
        assert batches(fake) == [4, 4, 2]
        fake.requests.clear()
        fake.hold()
        large = asyncio.create_task(client.predict("demo", np.zeros((9, 1)), timeout_seconds=LONG))
        small = start(client, 0.0)
        await arrived(fake, 2)
        fake.release()
        assert (await large).values.shape == (9, 1)
        await small


async def test_bytes_are_bounded_as_well(fake: FakeServer) -> None:
    """Two of these fit into the message size with room for the rest, three do not."""
    windows = np.zeros((1, 1000))
    async with AsyncClient(fake.target, max_message_bytes=10_000) as client:
        await asyncio.gather(*(client.predict("demo", windows) for _ in range(5)))
    assert batches(fake) == [2, 2, 1]


async def test_more_messages_in_flight_where_the_option_says_so(fake: FakeServer) -> None:
    async with AsyncClient(fake.target, max_joined_in_flight=2) as client, occupied(fake, client):
        second = start(client, 1.0)
        await arrived(fake, 2)
        third = start(client, 2.0)
        await turn()
        assert batches(fake) == [1, 1]
        fake.release()
        await asyncio.gather(second, third)


async def test_a_message_that_does_not_return_holds_nobody_back_for_long(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joiner, "MAX_WAIT_SECONDS", 0.05)
    async with AsyncClient(fake.target) as client, occupied(fake, client):
        calls = [start(client, 1.0), start(client, 2.0)]
        await arrived(fake, 2)
        assert batches(fake) == [1, 2]
        fake.release()
        await asyncio.gather(*calls)


# Deadlines and leaving


async def test_each_caller_has_its_own_deadline(fake: FakeServer) -> None:
    """Also when the message goes on; its time is that of the caller with the most."""
    fake.hold()
    async with AsyncClient(fake.target) as client:
        calls = [start(client, 0.0, timeout_seconds=seconds) for seconds in (0.001, 0.2, 30.0)]
        for call in calls[:2]:
            with pytest.raises(DeadlineExceeded):
                await call
        assert not calls[2].done()
        assert batches(fake) == [3]
        assert 0.2 < fake.time_remaining[0] < 30.1
        fake.release()
        assert (await calls[2]).values.tolist() == [1.0]


async def test_a_deadline_that_passes_while_waiting_for_company(fake: FakeServer) -> None:
    """Half of its time is left when it is sent."""
    async with AsyncClient(fake.target) as client, occupied(fake, client):
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await start(client, 0.0, timeout_seconds=0.4)
        assert 0.39 < time.monotonic() - started < LONG / 2
        assert batches(fake) == [1, 1]
        assert fake.time_remaining[1] < 0.3


async def test_one_that_leaves_takes_nothing_from_the_others(fake: FakeServer) -> None:
    fake.hold()
    async with AsyncClient(fake.target) as client:
        calls = [start(client, float(n)) for n in range(3)]
        await asyncio.to_thread(fake.arrived.wait)
        calls[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[1]
        fake.release()
        assert [(await calls[n]).values.tolist() for n in (0, 2)] == [[1.0], [3.0]]
    assert batches(fake) == [3]


async def test_a_message_that_all_have_left_is_cancelled_at_the_server(fake: FakeServer) -> None:
    fake.hold()
    async with AsyncClient(fake.target) as client:
        calls = [start(client, 1.0), start(client, 2.0), start(client, 3.0, timeout_seconds=0.3)]
        await asyncio.to_thread(fake.arrived.wait)
        for call in calls[:2]:
            call.cancel()
        await asyncio.wait(calls)
        await asyncio.to_thread(fake.left.wait)
        fake.release()
        assert (await start(client, 4.0)).values.tolist() == [5.0]


async def test_one_that_leaves_before_it_is_sent_is_not_sent(fake: FakeServer) -> None:
    async with AsyncClient(fake.target) as client:
        async with occupied(fake, client):
            calls = [start(client, float(n)) for n in range(3)]
            await turn()
            calls[0].cancel()
            await turn()
        await asyncio.wait(calls)
        assert [calls[n].result().values.tolist() for n in (1, 2)] == [[2.0], [3.0]]
    assert batches(fake) == [1, 2]


async def test_leaving_at_the_very_moment_of_sending_blocks_nobody(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task that sends is cancelled before it has begun, and so cannot clean up after itself."""
    begin = joiner.Joiner._start

    def begin_too_late(self: joiner.Joiner, message: Any, now: float) -> None:
        begin(self, message, now)
        for caller in message.calls:
            self._give_up(caller)

    async with AsyncClient(fake.target) as client:
        monkeypatch.setattr(joiner.Joiner, "_start", begin_too_late)
        with pytest.raises(DeadlineExceeded):
            await start(client, 1.0)
        monkeypatch.undo()
        assert (await start(client, 2.0)).values.tolist() == [3.0]
        assert client._joiner is not None
        assert not len(client._joiner._queue)
    assert batches(fake) == [1]


async def test_closing_the_client_ends_calls_that_wait_and_calls_in_flight(fake: FakeServer) -> None:
    fake.hold()
    async with AsyncClient(fake.target) as client:
        calls = [start(client, 0.0), start(client, 1.0)]
        await asyncio.to_thread(fake.arrived.wait)
        calls += [start(client, 2.0), start(client, 3.0, horizon=1)]
        await turn()
        await client.close()
        for call in calls:
            with pytest.raises(Cancelled, match="the client is closed"):
                await call
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


# Errors


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN])
async def test_a_bad_caller_spoils_nothing_for_the_others(fake: FakeServer, code: grpc.StatusCode) -> None:
    """Each is asked again alone, so the row in the message is that of the caller's own call."""
    fake.refuse = lambda request: refuse_bad(request, code)
    values = [float(n) for n in range(31)] + [BAD]
    async with AsyncClient(fake.target) as client:
        calls = [start(client, value) for value in values]
        await asyncio.wait(calls)
    assert [call.result().values.tolist() for call in calls[:31]] == [[n + 1.0] for n in range(31)]
    with pytest.raises(NextvalueError, match=r"windows\[0\] is too large") as caught:
        await calls[31]
    assert caught.value.code is code
    assert sorted(batches(fake)) == [1] * 32 + [32]


async def test_a_lone_bad_caller_is_not_asked_again(fake: FakeServer) -> None:
    fake.refuse = refuse_bad
    async with AsyncClient(fake.target) as client:
        with pytest.raises(InvalidArgument, match=r"windows\[1\] is too large"):
            await client.predict("demo", [[1.0], [BAD]])
    assert batches(fake) == [2]


async def test_an_innocent_is_answered_also_when_the_bad_one_has_left(fake: FakeServer) -> None:
    fake.hold()
    fake.refuse = refuse_bad
    async with AsyncClient(fake.target) as client:
        bad, good = start(client, BAD), start(client, 1.0)
        await asyncio.to_thread(fake.arrived.wait)
        bad.cancel()
        await turn()
        fake.release()
        assert (await good).values.tolist() == [2.0]
    assert batches(fake) == [2, 1]


async def test_sent_again_alone_each_keeps_what_is_left_of_its_time(fake: FakeServer) -> None:
    fake.refuse = refuse_bad
    async with AsyncClient(fake.target) as client:
        calls = [start(client, BAD), start(client, 1.0, timeout_seconds=20.0)]
        await asyncio.wait(calls)
    assert sorted(round(seconds, -1) for seconds in fake.time_remaining) == [20.0, 60.0, 60.0]


async def test_what_is_wrong_for_all_is_asked_once_and_told_to_each(fake: FakeServer) -> None:
    fake.failures.append(Failure(grpc.StatusCode.NOT_FOUND, "no model 'demo'"))
    async with AsyncClient(fake.target) as client:
        errors = await asyncio.gather(*(start(client, float(n)) for n in range(8)), return_exceptions=True)
    assert all(isinstance(error, NotFound) and "no model 'demo'" in str(error) for error in errors)
    assert len({id(error) for error in errors}) == 8, "a raised error collects tracebacks; each needs its own"
    assert batches(fake) == [8]


async def test_a_message_too_large_for_the_server_is_sent_in_its_parts(fake: FakeServer) -> None:
    def refuse(request: pb.PredictRequest) -> Failure | None:
        too_large = request.windows.shape[0] > 2
        return Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max") if too_large else None

    fake.refuse = refuse
    async with AsyncClient(fake.target) as client:
        calls = [start(client, 1.0), start(client, 2.0)]
        calls.append(asyncio.create_task(client.predict("demo", [[1.0], [2.0], [3.0]])))
        await asyncio.wait(calls)
    assert [call.result().values.tolist() for call in calls[:2]] == [[2.0], [3.0]]
    with pytest.raises(Overloaded, match="larger than max"):
        await calls[2]


async def test_a_joined_reply_that_does_not_fit_is_judged_call_by_call(fake: FakeServer) -> None:
    fake.reply = pb.PredictResponse(predictions=pb.FloatArray(shape=[1, 1], values=[7.0]))
    async with AsyncClient(fake.target) as client:
        calls = [start(client, 1.0), asyncio.create_task(client.predict("demo", [[1.0], [2.0]]))]
        await asyncio.wait(calls)
    assert calls[0].result().values.tolist() == [7.0]
    with pytest.raises(ServerError, match=r"shape \[1, 1\]: asked for \[2, 1\]"):
        await calls[1]


async def test_a_mistake_of_ours_is_told_to_every_caller(fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not left to run into everybody's deadline."""

    def mistaken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(joiner, "joined", mistaken)
    async with AsyncClient(fake.target) as client:
        errors = await asyncio.gather(start(client, 1.0), start(client, 2.0), return_exceptions=True)
    assert [type(error) for error in errors] == [ZeroDivisionError] * 2


# Retries


async def test_a_joined_message_is_retried_as_one(fake: FakeServer) -> None:
    """One attempt each time, whoever is in it: a budget for five failures would not last for five callers otherwise."""
    fake.failures.append(Failure(grpc.StatusCode.UNAVAILABLE))
    fake.failures.append(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, pushback="1"))
    policy = RetryPolicy(initial_backoff_seconds=0.0, budget_tokens=6.0)
    async with AsyncClient(fake.target, retry=policy) as client:
        predictions = await asyncio.gather(*(start(client, float(n)) for n in range(5)))
        assert [prediction.values.tolist() for prediction in predictions] == [[n + 1.0] for n in range(5)]
        assert batches(fake) == [5, 5, 5]
        assert client._budget.allows_retry()


async def test_when_retries_are_used_up_all_are_told(fake: FakeServer) -> None:
    fake.failures.extend(Failure(grpc.StatusCode.UNAVAILABLE, f"attempt {number}") for number in range(1, 10))
    async with AsyncClient(fake.target, retry=QUICK) as client:
        errors = await asyncio.gather(*(start(client, float(n)) for n in range(3)), return_exceptions=True)
    assert all(isinstance(error, Unavailable) and "attempt 5" in str(error) for error in errors)
    assert batches(fake) == [3] * 5


async def test_whose_time_ends_before_the_next_attempt_is_told_at_once(fake: FakeServer) -> None:
    """As a call alone does not begin a wait beyond its deadline, and says why."""
    fake.failures.append(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full", pushback="3000"))
    async with AsyncClient(fake.target) as client:
        short, long = start(client, 1.0, timeout_seconds=2.5), start(client, 2.0)
        started = time.monotonic()
        with pytest.raises(Overloaded, match="queue full"):
            await short
        assert time.monotonic() - started < 2.4
        assert (await long).values.tolist() == [3.0]
    assert batches(fake) == [2, 2]


# Unknown series


async def test_each_caller_gets_its_own_count_of_unknown_series(fake: FakeServer) -> None:
    """Asked about one by one the first time, and then no more."""
    series = ["shop-a", "stranger", "7", "nobody"]
    async with AsyncClient(fake.target) as client:
        for expected in ([4, 1, 1, 1, 1], [4]):
            fake.requests.clear()
            predictions = await asyncio.gather(*(start(client, float(n), series=name) for n, name in enumerate(series)))
            assert [prediction.num_unknown_series for prediction in predictions] == [0, 1, 0, 1]
            assert [prediction.values.tolist() for prediction in predictions] == [[n + 1.0] for n in range(4)]
            assert sorted(batches(fake), reverse=True) == expected


async def test_a_caller_that_mixes_known_and_unknown_series_goes_alone_from_then_on(fake: FakeServer) -> None:
    async with AsyncClient(fake.target) as client:
        for expected in ([4, 2, 1, 1], [2, 2]):
            fake.requests.clear()
            mixed = asyncio.create_task(client.predict("demo", [[1.0], [2.0]], series=["shop-a", "stranger"]))
            others = [start(client, 1.0, series=name) for name in ("shop-a", "7")]
            assert (await mixed).num_unknown_series == 1
            assert [(await other).num_unknown_series for other in others] == [0, 0]
            assert sorted(batches(fake), reverse=True) == expected
