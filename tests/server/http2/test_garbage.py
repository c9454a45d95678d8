"""What is over is freed at once: nothing hangs together in a circle and waits for the collector."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub
from server.http2 import calls, connection, frames, protocol
from tests.server.harness import Running, eventually, infer_request, predict_request, refusal, serving
from tests.server.oracle import Oracle

OURS = (calls.ServerCall, connection.Connection, protocol.Connected)


@pytest.fixture
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> Counter[str]:
    return Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, OURS))


async def call_in_many_ways(running: Running, demo: Oracle) -> None:
    """Answered, refused, late, left: each some times."""
    windows = demo.random_windows(np.random.default_rng(8), 2)
    for _ in range(5):
        await running.predict("demo", windows)
        await running.predict("demo", windows, timeout_seconds=30)
        await running.inference.ModelInfer(infer_request("demo", windows))
        await refusal(running.predict("nobody", windows))
        with running.held("demo") as held:
            first = asyncio.create_task(running.predict("demo", windows))
            await eventually(lambda: held.batches, "a run")
            late = await refusal(running.predict("demo", windows, timeout_seconds=0.05))
            assert late.code == grpc.StatusCode.DEADLINE_EXCEEDED
            leaver = running.next_value.Predict(predict_request("demo", windows))
            await asyncio.sleep(0)
            leaver.cancel()
            held.release.set()
            await first


@pytest.mark.usefixtures("_without_collector")
async def test_calls_leave_nothing(demo: Oracle) -> None:
    async with serving(demo.artifact.folder.parents[1], transport="http2") as running:
        await call_in_many_ways(running, demo)
        await eventually(lambda: alive()["ServerCall"] == 0, "the end of all calls")


@pytest.mark.usefixtures("_without_collector")
async def test_connections_leave_nothing(demo: Oracle) -> None:
    async with serving(demo.artifact.folder.parents[1], transport="http2") as running:
        before = alive()
        windows = demo.random_windows(np.random.default_rng(9), 1)
        for _ in range(3):
            own = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{running.server.grpc_port}", own) as channel:
                await NextValueStub(channel).Predict(predict_request("demo", windows))
            reader, writer = await asyncio.open_connection("127.0.0.1", running.server.grpc_port)
            writer.write(frames.PREFACE + frames.settings({}))
            await reader.read(9)
            writer.close()
        await eventually(lambda: alive() == before, "the end of all connections")
