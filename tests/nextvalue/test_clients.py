"""What both clients do; every test runs with each of them."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from nextvalue import (
    Cancelled,
    DeadlineExceeded,
    HealthStatus,
    InvalidArgument,
    ModelState,
    NextvalueError,
    NotFound,
    Overloaded,
    RetryPolicy,
    ServerError,
    Unavailable,
)
from nextvalue.v1 import nextvalue_pb2 as pb
from tests.nextvalue.conftest import QUICK, Ask, Connect
from tests.nextvalue.fake import Failure, FakeServer, expected_values, serve

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


# Predict


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (3, 5, 1), (2, 4, 3)])
async def test_every_window_gets_its_own_predictions(ask: Ask, shape: tuple[int, ...]) -> None:
    windows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    prediction = await ask("predict", "demo", windows, horizon=4)
    np.testing.assert_array_equal(prediction.values, expected_values(windows, 4), strict=True)


async def test_one_window_gives_one_row(ask: Ask, fake: FakeServer) -> None:
    prediction = await ask("predict", "demo", [45, 46, 47, 48, 49], horizon=3)
    assert prediction.values.tolist() == [50, 51, 52]
    assert list(fake.requests[0].windows.shape) == [1, 5]


async def test_how_predictions_are_fed_back_is_told(ask: Ask, fake: FakeServer) -> None:
    await ask("predict", "demo", [1, 2, 3], horizon=2)
    await ask("predict", "demo", [1, 2, 3], horizon=2, rollout="carry")
    assert [request.rollout for request in fake.requests] == [pb.ROLLOUT_UNSPECIFIED, pb.ROLLOUT_CARRY]
    with pytest.raises(InvalidArgument, match="rollout is 'jump': must be one of sliding, carry"):
        await ask("predict", "demo", [1, 2, 3], horizon=2, rollout="jump")


async def test_a_prediction_says_what_answered_and_how_long_it_took(ask: Ask) -> None:
    prediction = await ask("predict", "demo", [[1.0, 2.0]], version=7)
    assert (prediction.model, prediction.version) == ("demo", 7)
    assert (prediction.queue_seconds, prediction.run_seconds) == (0.0015, 0.25)


async def test_arguments_reach_the_wire_as_raw_little_endian_floats(ask: Ask, fake: FakeServer) -> None:
    windows, future = np.arange(12.0).reshape(2, 3, 2), np.arange(4.0).reshape(2, 2, 1)
    fake.reply = pb.PredictResponse(predictions=pb.FloatArray(shape=[2, 3], values=[0.0] * 6))
    await ask("predict", "demo", windows, horizon=3, version="stable", future=future)
    assert fake.requests == [
        pb.PredictRequest(
            model="demo",
            version="stable",
            windows=pb.FloatArray(shape=[2, 3, 2], raw_values=windows.astype("<f4").tobytes()),
            horizon=3,
            future=pb.FloatArray(shape=[2, 2, 1], raw_values=future.astype("<f4").tobytes()),
        )
    ]


async def test_a_reply_in_values_is_read_as_well(ask: Ask, fake: FakeServer) -> None:
    fake.reply = pb.PredictResponse(predictions=pb.FloatArray(shape=[2, 2], values=[1.5, 2.5, 3.5, 4.5]))
    prediction = await ask("predict", "demo", [[1.0], [2.0]], horizon=2)
    assert prediction.values.tolist() == [[1.5, 2.5], [3.5, 4.5]]
    assert prediction.values.dtype == np.float32


async def test_a_batch_beyond_grpcs_default_message_size_goes_both_ways(ask: Ask) -> None:
    windows = np.random.default_rng(0).normal(size=(30_000, 48)).astype(np.float32)
    prediction = await ask("predict", "demo", windows, horizon=40, timeout_seconds=60.0)
    np.testing.assert_array_equal(prediction.values, expected_values(windows, 40), strict=True)


async def test_the_message_size_is_the_callers_to_limit(connect: Connect, fake: FakeServer) -> None:
    async with connect(fake.target, retry=QUICK, max_message_bytes=1000) as ask:
        with pytest.raises(Overloaded, match="larger than max"):
            await ask("predict", "demo", np.zeros((100, 5)))
        assert (await ask("predict", "demo", np.zeros((10, 5)))).values.shape == (10, 1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"model": ""}, "model is empty"),
        ({"windows": 1.0}, r"windows has shape \[\]: must be \[T\], \[N, T\] or \[N, T, F\]"),
        ({"windows": []}, r"windows has shape \[0\]"),
        ({"windows": np.zeros((0, 5))}, r"windows has shape \[0, 5\]"),
        ({"windows": np.zeros((1, 2, 3, 4))}, r"windows has shape \[1, 2, 3, 4\]"),
        ({"windows": [[1.0, float("inf")]]}, r"windows\[0, 1\] is inf"),
        ({"windows": [[1.0], [1.0, 2.0]]}, "windows is not an array of real numbers"),
        ({"horizon": 0}, "horizon is 0: must be between 1 and"),
        ({"horizon": 2**31}, "horizon is 2147483648"),
        ({"horizon": 3, "future": [[[1.0], [2.0]]]}, r"need \[N, horizon - 1, F - 1\] = \[1, 2, 0\]"),
        ({"windows": np.zeros((2, 5, 3)), "horizon": 2, "future": np.zeros((2, 2, 2))}, r"= \[2, 1, 2\]"),
        ({"timeout_seconds": 0.0}, "timeout_seconds is 0.0: must be positive and finite"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds is inf"),
    ],
)
async def test_what_no_model_could_take_is_refused_before_sending(
    ask: Ask, fake: FakeServer, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        await ask("predict", **{"model": "demo", "windows": [[1.0, 2.0]], **arguments})
    assert not fake.requests


@pytest.mark.parametrize(
    ("predictions", "complaint"),
    [
        (pb.FloatArray(), "unusable reply"),
        (pb.FloatArray(shape=[2], values=[1, 2]), r"shape \[2\]: asked for \[2, 1\]"),
        (pb.FloatArray(shape=[2, 1], values=[1]), "has 1 elements"),
    ],
)
async def test_a_reply_that_does_not_fit_is_the_servers_error(
    ask: Ask, fake: FakeServer, predictions: pb.FloatArray, complaint: str
) -> None:
    fake.reply = pb.PredictResponse(predictions=predictions)
    with pytest.raises(ServerError, match=complaint):
        await ask("predict", "demo", [[1.0], [2.0]])


# Models and health


async def test_models_are_listed_with_versions_and_reasons(ask: Ask) -> None:
    (model,) = await ask("models")
    failed, serving = model.versions
    assert (model.name, model.default_version) == ("demo", 2)
    assert (failed.version, failed.state, failed.description) == (3, ModelState.FAILED, None)
    assert failed.reason.startswith("parity")
    assert (serving.version, serving.state, serving.reason) == (2, ModelState.SERVING, "")
    assert (failed.labels, serving.labels) == ((), ("default", "stable"))
    assert serving.description.features == ("load", "hour")
    assert (serving.description.cell, serving.description.window, serving.description.stateful) == ("gru", 5, True)
    assert (serving.description.direct_horizon, serving.description.calendar) == (3, ("day", "week"))
    assert (serving.description.scaling, serving.description.num_series) == ("series", 2)
    assert (serving.description.intervals, serving.description.levels) == ("conformal", (0.5, 0.9))
    depths = serving.description.transition_depth, serving.description.residual, serving.description.output_depth
    assert depths == (2, True, 4)
    assert serving.description.linear_skip
    assert serving.description.carry_horizon == 24
    assert await ask("model", "demo") == model


async def test_an_unknown_model_is_not_found(ask: Ask) -> None:
    with pytest.raises(NotFound, match="no model 'other'") as caught:
        await ask("model", "other")
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


async def test_health_is_that_of_the_service_asked_about(ask: Ask, fake: FakeServer) -> None:
    status = health_pb2.HealthCheckResponse
    fake.health.set("readiness", status.NOT_SERVING)
    fake.health.set("liveness", status.UNKNOWN)
    assert await ask("health") is HealthStatus.SERVING
    assert await ask("health", "readiness") is HealthStatus.NOT_SERVING
    assert await ask("health", "liveness") is HealthStatus.UNKNOWN
    assert await ask("health", "nobody") is HealthStatus.SERVICE_UNKNOWN


# Retries and deadlines


async def test_unavailable_is_tried_again(ask: Ask, fake: FakeServer) -> None:
    fake.failures.extend([Failure(UNAVAILABLE)] * 2)
    assert (await ask("predict", "demo", [1.0])).values.tolist() == [2.0]
    assert len(fake.requests) == 3


async def test_the_last_attempts_error_is_raised_and_grpc_adds_no_attempts(ask: Ask, fake: FakeServer) -> None:
    fake.failures.extend(Failure(UNAVAILABLE, f"attempt {number}") for number in range(1, 10))
    with pytest.raises(Unavailable, match="attempt 5"):
        await ask("predict", "demo", [1.0])
    assert len(fake.requests) == 5


async def test_overload_is_tried_again_when_the_server_says_when(ask: Ask, fake: FakeServer) -> None:
    fake.failures.append(Failure(EXHAUSTED, pushback="1"))
    await ask("predict", "demo", [1.0])
    assert len(fake.requests) == 2


@pytest.mark.parametrize("pushback", [None, "-1", "later"])
async def test_overload_is_raised_at_once_otherwise(ask: Ask, fake: FakeServer, pushback: str | None) -> None:
    fake.failures.append(Failure(EXHAUSTED, "queue full", pushback))
    with pytest.raises(Overloaded, match="queue full"):
        await ask("predict", "demo", [1.0])
    assert len(fake.requests) == 1


async def test_calls_of_one_client_share_a_retry_budget(connect: Connect, fake: FakeServer) -> None:
    policy = RetryPolicy(initial_backoff_seconds=0.0, budget_tokens=6.0)
    async with connect(fake.target, retry=policy) as ask:
        fake.failures.extend([Failure(UNAVAILABLE)] * 4)
        for _ in range(2):  # three attempts take the budget to its half; the next call has one attempt
            with pytest.raises(Unavailable):
                await ask("predict", "demo", [1.0])
        assert len(fake.requests) == 4
        await ask("predict", "demo", [1.0])


async def test_a_wait_beyond_the_deadline_is_not_begun(ask: Ask, fake: FakeServer) -> None:
    fake.failures.append(Failure(EXHAUSTED, "come back in an hour", pushback="3600000"))
    with pytest.raises(Overloaded, match="come back in an hour"):
        await ask("predict", "demo", [1.0])
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    ("method", "arguments"), [("predict", ["demo", [1.0]]), ("models", []), ("model", ["demo"])], ids=str
)
async def test_every_call_ends_at_its_deadline(ask: Ask, fake: FakeServer, method: str, arguments: list[Any]) -> None:
    fake.hold()
    with pytest.raises(DeadlineExceeded):
        await ask(method, *arguments, timeout_seconds=0.1)


async def test_every_call_has_a_deadline_by_default(ask: Ask, fake: FakeServer) -> None:
    await ask("predict", "demo", [1.0])
    await ask("models")
    await ask("model", "demo")
    assert len(fake.time_remaining) == 3
    assert all(0 < seconds < 5.1 for seconds in fake.time_remaining)


async def test_nobody_listening_is_unavailable(connect: Connect, tmp_path: Path) -> None:
    async with connect(f"unix:{tmp_path}/nobody", retry=QUICK) as ask:
        with pytest.raises(Unavailable):
            await ask("health")


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_every_status_arrives_as_its_error(ask: Ask, fake: FakeServer, code: grpc.StatusCode) -> None:
    fake.failures.extend([Failure(code, "told to fail")] * 5)
    with pytest.raises(NextvalueError, match="told to fail") as caught:
        await ask("predict", "demo", [1.0])
    assert caught.value.code is code


# Channels


async def test_calls_are_spread_over_all_addresses(connect: Connect, fake: FakeServer) -> None:
    with serve() as other:
        async with connect(f"ipv4:{fake.target},{other.target}", retry=QUICK) as ask:
            while not (fake.requests and other.requests):
                await ask("predict", "demo", [1.0])


async def test_a_closed_client_makes_no_calls(connect: Connect, fake: FakeServer) -> None:
    async with connect(fake.target) as ask:
        await ask("close")
        with pytest.raises(Cancelled, match="closed"):
            await ask("predict", "demo", [1.0])


async def test_closing_the_client_ends_calls_on_their_way(connect: Connect, fake: FakeServer) -> None:
    fake.hold()
    async with connect(fake.target) as ask:
        call = asyncio.ensure_future(ask("predict", "demo", [1.0], timeout_seconds=30.0))
        await asyncio.to_thread(fake.arrived.wait)
        await ask("close")
        with pytest.raises(Cancelled):
            await call
    await asyncio.to_thread(fake.left.wait)


async def test_closing_the_client_ends_its_waits(connect: Connect, fake: FakeServer, waiting: threading.Event) -> None:
    fake.failures.append(Failure(EXHAUSTED, pushback="20000"))
    async with connect(fake.target) as ask:
        call = asyncio.ensure_future(ask("predict", "demo", [1.0], timeout_seconds=30.0))
        await asyncio.to_thread(waiting.wait)
        await ask("close")
        with pytest.raises(Cancelled):
            await call
