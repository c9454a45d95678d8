"""Several workers, each a process: calls spread over them, one that dies takes nothing away, and all end together."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nextvalue import Client
from nextvalue.channel import channel_options
from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub
from tests.server.group import (
    OWN_CONNECTION,
    Callers,
    await_replaced,
    connections,
    descendants,
    gone,
    group,
    metrics_folder,
    total,
    workers_of,
)
from tests.server.harness import LIMIT_SECONDS, ServerProcess, eventually_sync, predict_request, to_numpy
from tests.server.oracle import Oracle

WINDOW = np.zeros((1, 5, 1), np.float32)
# So many connections miss one of two workers once in 2**15 runs.
MANY = 16


@pytest.fixture(params=["grpcio", "http2"])
def pair(models: Path, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """Two workers, ready."""
    with group(models, "--transport", request.param) as process:
        process.await_ready()
        yield process


@pytest.fixture
def own_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of our clients has a connection of its own, as in processes of their own."""

    def options(*, max_message_bytes: int) -> list[tuple[str, str | int]]:
        return [*channel_options(max_message_bytes=max_message_bytes), OWN_CONNECTION]

    monkeypatch.setattr("nextvalue.client.channel_options", options)


def connected(process: ServerProcess) -> list[int]:
    """How many connections each worker has."""
    return [
        sum(each.status == psutil.CONN_ESTABLISHED and each.laddr.port == process.grpc_port for each in found)
        for found in (worker.net_connections("tcp") for worker in workers_of(process))
    ]


def await_accepted(process: ServerProcess) -> None:
    """Until the first run of each of MANY calls has begun; those that go on wait again between two runs."""

    def begun() -> float:
        return total(process, "nextvalue_phase_seconds_count", model="demo", phase="queue")

    eventually_sync(lambda: begun() >= MANY, "all calls to be accepted")


def answered(process: ServerProcess) -> float:
    return total(process, "nextvalue_requests_total", rpc="Predict", code="OK", model="demo")


def test_calls_reach_both_and_the_page_adds_up(pair: ServerProcess, demo: Oracle) -> None:
    generator = np.random.default_rng(5)
    windows = [demo.random_windows(generator, int(generator.integers(1, 5))) for _ in range(3 * MANY)]

    def call(channel: grpc.Channel, part: int) -> None:
        for each in windows[3 * part : 3 * part + 3]:
            reply = NextValueStub(channel).Predict(predict_request("demo", each, horizon=2), timeout=LIMIT_SECONDS)
            demo.assert_right(to_numpy(reply.predictions), demo.predict(each, 2))

    with connections(pair.target, MANY) as channels, ThreadPoolExecutor(MANY) as threads:
        list(threads.map(call, channels, range(MANY)))
        counts = connected(pair)
        assert sum(counts) == MANY
        assert all(counts), f"one worker has all connections: {counts}"
        # Refusals count as calls, too.
        for channel in channels:
            with pytest.raises(grpc.RpcError):
                NextValueStub(channel).Predict(predict_request("nobody", WINDOW), timeout=LIMIT_SECONDS)
    assert answered(pair) == 3 * MANY
    assert total(pair, "nextvalue_requests_total") == 4 * MANY
    assert total(pair, "nextvalue_request_seconds_count") == 4 * MANY
    assert total(pair, "nextvalue_predictions_total") == 2 * sum(map(len, windows))
    assert total(pair, "nextvalue_batch_windows_sum", model="demo") == 2 * sum(map(len, windows))
    # Both serve it; that is no 2.
    assert total(pair, "nextvalue_model_info", model="demo") == 1


@pytest.mark.slow
def test_one_is_killed_under_load(
    pair: ServerProcess, demo: Oracle, own_connections: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Our client tries again; nobody gets a wrong answer, or none. What was counted stays, once."""
    callers = Callers(pair.target, demo, MANY)
    try:
        callers.await_calls(3)
        assert all(connected(pair))
        first = workers_of(pair)[0]
        first.kill()
        callers.await_calls(3)
        await_replaced(pair, 1)
        callers.await_calls(3)
    finally:
        callers.end()
    pair.await_line(rf"worker \d: process {first.pid} was killed by SIGKILL; another starts in 0\.1 s$")
    # An answer that was counted and lost with its worker was asked for again.
    right = sum(callers.num_right)
    assert right <= answered(pair) <= right + MANY

    # With nothing under way the page is exact across a death.
    before = answered(pair)
    workers_of(pair)[0].kill()
    await_replaced(pair, 2)
    assert answered(pair) == before
    with connections(pair.target, MANY) as channels:
        for channel in channels:
            NextValueStub(channel).Predict(predict_request("demo", WINDOW), timeout=LIMIT_SECONDS)
        assert all(connected(pair)), "the new one serves"
    assert answered(pair) == before + MANY
    assert total(pair, "nextvalue_model_info", model="demo") == 1
    # Two of each kind of file, and one for the dead.
    names = [path.name for path in metrics_folder(pair).iterdir()]
    assert len([name for name in names if name.startswith("counter_")]) == 3, names


def test_it_ends_under_load(pair: ServerProcess, demo: Oracle) -> None:
    """What was accepted is answered by each worker, and then nothing of it is left."""
    folder, started = metrics_folder(pair), descendants(pair)
    generator = np.random.default_rng(6)
    with connections(pair.target, MANY) as channels:
        windows = [demo.random_windows(generator, 512) for _ in channels]
        calls = []
        for channel, each in zip(channels, windows, strict=True):
            # Long enough to be under way, or queued, when the signal comes.
            request = predict_request("demo", each, horizon=500)
            calls.append(NextValueStub(channel).Predict.future(request, timeout=LIMIT_SECONDS))
        watch = health_pb2_grpc.HealthStub(channels[0]).Watch(health_pb2.HealthCheckRequest(), timeout=LIMIT_SECONDS)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        await_accepted(pair)
        assert all(connected(pair))
        pair.terminate()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert not all(call.done() for call in calls), "the calls were too short for this test"
        for call, each in zip(calls, windows, strict=True):
            found = to_numpy(call.result().predictions)
            demo.assert_right(found[:, :10].copy(), demo.predict(each, 10))
    assert pair.wait() == 0
    assert "Traceback" not in pair.log
    gone(started)
    assert not folder.exists()


def test_when_the_supervisor_is_killed_nobody_is_left(pair: ServerProcess, demo: Oracle) -> None:
    """The workers finish what they accepted, and go."""
    started = descendants(pair)
    assert len(started) == 2
    with connections(pair.target, MANY) as channels:
        windows = demo.random_windows(np.random.default_rng(8), 512)
        request = predict_request("demo", windows, horizon=500)
        calls = [NextValueStub(channel).Predict.future(request, timeout=LIMIT_SECONDS) for channel in channels]
        await_accepted(pair)
        pair.process.kill()
        assert not all(call.done() for call in calls), "the calls were too short for this test"
        for call in calls:
            found = to_numpy(call.result().predictions)
            demo.assert_right(found[:, :10].copy(), demo.predict(windows, 10))
    gone(started)
    pair.wait()
    assert "the supervisor is gone; this worker drains and ends" in pair.log


def test_one_that_is_told_to_end_is_replaced(pair: ServerProcess) -> None:
    """By an operator, not by us: it drains as a single server does."""
    first = workers_of(pair)[0]
    first.send_signal(signal.SIGTERM)
    await_replaced(pair, 1)
    pair.await_line(rf"process {first.pid} ended with status 0; another starts")
    assert len(workers_of(pair)) == 2


def test_one_that_does_not_drain_is_killed(models: Path) -> None:
    """It is stopped, and hears nothing."""
    with group(models, "--drain-seconds", "0.1") as process:
        process.await_ready()
        started = descendants(process)
        os.kill(started[0].pid, signal.SIGSTOP)
        process.terminate()
        assert process.wait() == 0
        gone(started)
        assert f"process {started[0].pid} has not drained; killed" in process.log


def test_our_own_client_knows_when_it_is_ready(models: Path) -> None:
    """While no worker has loaded, nobody listens; then all are ready at once."""
    with group(models, workers=3) as process:
        process.await_ports()
        with Client(process.target) as client:
            eventually_sync(lambda: _serves(client), "readiness")
        process.await_line(r" INFO nextvalue ready$")
        assert len(workers_of(process)) == 3
        assert sum(line.endswith(" loaded") for line in process.lines) == 3


def _serves(client: Client) -> bool:
    try:
        return client.health(timeout_seconds=5).name == "SERVING"
    except Exception:  # noqa: BLE001 (nobody listens yet)
        return False
