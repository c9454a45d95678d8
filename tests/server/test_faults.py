"""What callers may do to a server as a user starts it, over either transport: it lives; every call has its status."""

import asyncio
import resource
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub
from server.http2 import frames
from tests.server.harness import (
    LIMIT_SECONDS,
    ServerProcess,
    eventually_sync,
    predict_request,
    server_process,
    to_numpy,
)
from tests.server.oracle import Oracle

NUM_CONNECTIONS = 10_000
# Beyond what the system lets wait to be accepted, some would have to try again.
AT_ONCE = 1_000
# Resident memory that a fault may leave behind, MB: warm libraries, and pages that are not free from end to end.
MAX_LEFT_MB = 25
# Files beside the connections.
OTHERS = 200
HELLO = frames.PREFACE + frames.settings({})


@pytest.fixture(params=["grpcio", "http2"])
def process(models: Path, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A server that is ready, without a reference and with a queue of at most some 50 ms."""
    options = ["--transport", request.param, "--reference", "off", "--max-queue-ms", "50", "--log-level", "info"]
    with server_process(models, *options) as process:
        process.await_ready()
        before = resident_mb(process)
        yield process
        if request.param == "http2":  # what grpcio's own library keeps is not ours to free
            eventually_sync(
                lambda: resident_mb(process) <= before + MAX_LEFT_MB, f"memory as at the start, {before:.0f} MB"
            )
        process.terminate()
        assert process.wait() == 0
        assert "Traceback" not in process.log


def resident_mb(process: ServerProcess) -> float:
    """10⁶ bytes."""
    return float(psutil.Process(process.process.pid).memory_info().rss) / 1e6


def ask(process: ServerProcess, demo: Oracle) -> None:
    """A call on a connection of its own is answered, and right."""
    windows = demo.random_windows(np.random.default_rng(3), 4)
    with grpc.insecure_channel(process.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        reply = NextValueStub(channel).Predict(predict_request("demo", windows), timeout=LIMIT_SECONDS)
    demo.assert_right(to_numpy(reply.predictions), demo.predict(windows))


async def statuses(process: ServerProcess, request: Any, expected: Any, rate: float, seconds: float) -> Counter[str]:
    """Calls that arrive at `rate` a second, whether the server keeps up or not; each right or refused."""
    async with grpc.aio.insecure_channel(process.target) as channel:
        stub: Any = NextValueStub(channel)

        async def one() -> str:
            try:
                reply = await stub.Predict(request, timeout=LIMIT_SECONDS)
            except grpc.aio.AioRpcError as error:
                return error.code().name
            expected(to_numpy(reply.predictions))
            return "OK"

        tasks = []
        for _ in range(int(rate * seconds)):
            tasks.append(asyncio.create_task(one()))
            await asyncio.sleep(1 / rate)
        return Counter(await asyncio.gather(*tasks))


@pytest.mark.slow
async def test_more_than_it_can_answer(process: ServerProcess, demo: Oracle) -> None:
    """Calls of ten milliseconds and more, five hundred a second: many are refused, the others right, nothing else."""
    windows = demo.random_windows(np.random.default_rng(4), 512)
    right = demo.predict(windows, 20)
    request = predict_request("demo", windows, horizon=20)
    found = await statuses(process, request, lambda given: demo.assert_right(given, right), rate=500, seconds=3)
    assert set(found) == {"OK", "RESOURCE_EXHAUSTED"}, found
    assert found.total() == 1500
    ask(process, demo)
    refused = f'nextvalue_rejected_total{{model="demo",reason="queue_full"}} {found["RESOURCE_EXHAUSTED"]}.0'
    assert refused in process.page()
    assert 'nextvalue_queue_windows{model="demo"} 0.0' in process.page()


async def test_a_millisecond_s_time(process: ServerProcess, demo: Oracle) -> None:
    windows = demo.random_windows(np.random.default_rng(5), 64)
    right = demo.predict(windows, 5)
    request = predict_request("demo", windows, horizon=5)
    found: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(process.target) as channel:
        stub: Any = NextValueStub(channel)
        await channel.channel_ready()
        for batch in range(10):
            calls = [stub.Predict(request, timeout=0.001 * (1 + batch % 3)) for _ in range(30)]
            for call in calls:
                try:
                    demo.assert_right(to_numpy((await call).predictions), right)
                    found["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    found[error.code().name] += 1
    assert found.total() == 300
    assert set(found) <= {"OK", "DEADLINE_EXCEEDED"}, found
    assert found["DEADLINE_EXCEEDED"]
    ask(process, demo)
    eventually_sync(lambda: 'nextvalue_queue_windows{model="demo"} 0.0' in process.page(), "an empty queue")


@pytest.mark.slow
def test_ten_thousand_connections(process: ServerProcess, demo: Oracle) -> None:
    """Idle ones cost memory, not answers; when they are gone their files are closed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < NUM_CONNECTIONS + OTHERS:
        pytest.skip(f"no process may have more than {hard} open files")
    server = psutil.Process(process.process.pid)
    files = server.num_fds()
    address = ("127.0.0.1", process.grpc_port)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, NUM_CONNECTIONS + OTHERS), hard))
    callers = []
    try:
        for _ in range(NUM_CONNECTIONS // AT_ONCE):
            for _ in range(AT_ONCE):
                callers.append(socket.create_connection(address, timeout=LIMIT_SECONDS))
                callers[-1].sendall(HELLO)
            eventually_sync(lambda: server.num_fds() >= files + len(callers), "all to be accepted")
        assert callers[0].recv(9)[3] == frames.SETTINGS
        assert callers[-1].recv(9)[3] == frames.SETTINGS
        ask(process, demo)
    finally:
        for caller in callers:
            caller.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    eventually_sync(lambda: server.num_fds() <= files + OTHERS, "all to be let go")
    ask(process, demo)
