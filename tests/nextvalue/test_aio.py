"""What only an event loop can do to a call."""

import asyncio
import threading

import grpc
import numpy as np
import pytest

from nextvalue import AsyncClient
from tests.nextvalue.conftest import QUICK
from tests.nextvalue.fake import Failure, FakeServer, expected_values


async def test_cancelling_the_task_cancels_the_call_at_the_server(fake: FakeServer) -> None:
    fake.hold()
    async with AsyncClient(fake.target, retry=QUICK) as client:
        call = asyncio.create_task(client.predict("demo", [1.0], timeout_seconds=30.0))
        await asyncio.to_thread(fake.arrived.wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.to_thread(fake.left.wait)
        fake.release()
        assert (await client.predict("demo", [1.0])).values.tolist() == [2.0]


async def test_a_cancelled_task_stays_cancelled_when_the_client_is_closed_as_well(fake: FakeServer) -> None:
    fake.hold()
    async with AsyncClient(fake.target) as client:
        call = asyncio.create_task(client.predict("demo", [1.0], timeout_seconds=30.0))
        await asyncio.to_thread(fake.arrived.wait)
        call.cancel()
        await client.close()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_cancelling_the_task_ends_a_wait_between_attempts(fake: FakeServer, waiting: threading.Event) -> None:
    fake.failures.append(Failure(grpc.StatusCode.UNAVAILABLE, pushback="20000"))
    async with AsyncClient(fake.target) as client:
        call = asyncio.create_task(client.predict("demo", [1.0], timeout_seconds=30.0))
        await asyncio.to_thread(waiting.wait)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_timeout_of_the_callers_own_stays_a_timeout(fake: FakeServer) -> None:
    fake.hold()
    async with AsyncClient(fake.target) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.predict("demo", [1.0], timeout_seconds=30.0)


async def test_calls_side_by_side_keep_their_answers_apart(fake: FakeServer) -> None:
    batches = np.random.default_rng(0).normal(size=(50, 3, 5)).astype(np.float32)
    async with AsyncClient(fake.target) as client:
        predictions = await asyncio.gather(*(client.predict("demo", batch, horizon=2) for batch in batches))
    for batch, prediction in zip(batches, predictions, strict=True):
        np.testing.assert_array_equal(prediction.values, expected_values(batch, 2))
