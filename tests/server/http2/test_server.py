"""The server over its own HTTP/2, with grpcio's client on the other side."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.errors import StartupError
from server.http2 import frames
from server.http2.listener import Http2Server
from server.pb import open_inference_pb2 as oip
from tests.server.harness import (
    LIMIT_SECONDS,
    Running,
    eventually,
    infer_outputs,
    infer_request,
    predict_request,
    refusal,
    serving,
    started,
    to_numpy,
)
from tests.server.http2.peer import Peer
from tests.server.oracle import Oracle

pytestmark = pytest.mark.asyncio(loop_scope="module")

CODE = grpc.StatusCode
AnyCall = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http2(models: Path) -> AsyncIterator[Running]:
    async with serving(models, transport="http2", max_message_mib="1") as running:
        yield running


async def test_a_thousand_calls_on_many_connections(
    http2: Running, demo: Oracle, generator: np.random.Generator
) -> None:
    """Each its own answer, whatever shares its connection or its run."""
    target = f"127.0.0.1:{http2.server.grpc_port}"
    sizes = generator.integers(1, [40, 5], (1000, 2)).tolist()
    calls = [demo.random_call(generator, num_windows, horizon) for num_windows, horizon in sizes]

    async def ask(running: Running, k: int) -> None:
        request = predict_request("demo", calls[k].windows, **calls[k].options)
        reply = await running.next_value.Predict(request, timeout=LIMIT_SECONDS)
        demo.assert_right(to_numpy(reply.predictions), demo.expect(calls[k]))

    async def connection(first: int) -> None:
        own = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(target, own) as channel:
            running = Running(http2.server, channel)
            await asyncio.gather(*(ask(running, k) for k in range(first, 1000, 10)))

    await asyncio.gather(*map(connection, range(10)))


async def test_messages_larger_than_any_window(http2: Running, demo: Oracle, generator: np.random.Generator) -> None:
    """A request and an answer of many frames."""
    windows = demo.random_windows(generator, 40_000)
    reply = await http2.next_value.Predict(predict_request("demo", windows, horizon=5), timeout=LIMIT_SECONDS)
    demo.assert_right(to_numpy(reply.predictions), demo.predict(windows, 5))


async def test_a_message_beyond_the_limit(http2: Running) -> None:
    request = predict_request("demo", np.zeros((60_000, 5, 1), np.float32))
    refused = await refusal(http2.next_value.Predict(request, timeout=LIMIT_SECONDS))
    assert (refused.code, "the limit is 1048576" in refused.details) == (CODE.RESOURCE_EXHAUSTED, True)


async def test_compressed_requests(http2: Running, demo: Oracle, generator: np.random.Generator) -> None:
    windows = demo.random_windows(generator, 3)
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        reply = await http2.next_value.Predict(predict_request("demo", windows), compression=compression)
        demo.assert_right(to_numpy(reply.predictions), demo.predict(windows))


async def test_a_bomb_is_refused_before_it_is_large(http2: Running) -> None:
    request = predict_request("demo", np.zeros((200_000, 5, 1), np.float32))
    refused = await refusal(http2.next_value.Predict(request, compression=grpc.Compression.Gzip))
    assert (refused.code, "the limit is 1048576" in refused.details) == (CODE.RESOURCE_EXHAUSTED, True)


async def test_refusals_have_status_message_and_trailers(http2: Running, demo: Oracle) -> None:
    windows = np.zeros((1, 5, 1), np.float32)
    refused = await refusal(http2.next_value.Predict(predict_request("Zoë 100 %", windows)))
    assert (refused.code, "'Zoë 100 %'" in refused.details) == (CODE.NOT_FOUND, True), refused.details
    unknown: AnyCall = http2.channel.unary_unary("/nextvalue.v1.NextValue/Nothing")
    assert (await refusal(unknown(b""))).code is CODE.UNIMPLEMENTED
    garbled: AnyCall = http2.channel.unary_unary("/nextvalue.v1.NextValue/Predict")
    assert (await refusal(garbled(b"\xff\xff"))).code is CODE.INVALID_ARGUMENT


async def test_deadlines_and_cancellation_reach_the_queue(models: Path, demo: Oracle) -> None:
    windows = np.zeros((1, 5, 1), np.float32)
    async with serving(models, transport="http2") as running:
        with running.held("demo") as held:
            first = asyncio.create_task(running.predict("demo", windows))
            await eventually(lambda: held.batches, "a run")
            late = await refusal(running.next_value.Predict(predict_request("demo", windows), timeout=0.05))
            assert late.code is CODE.DEADLINE_EXCEEDED
            leaver = running.next_value.Predict(predict_request("demo", windows))
            await eventually(lambda: running.sample("nextvalue_queue_windows", model="demo") == 1, "a queue")
            leaver.cancel()
            await eventually(lambda: running.sample("nextvalue_queue_windows", model="demo") == 0, "an empty queue")
            held.release.set()
            await first
        await eventually(lambda: running.requests("Predict", "CANCELLED", "demo", "1") == 1, "the count")
        assert running.requests("Predict", "DEADLINE_EXCEEDED", "demo", "1") == 1


async def test_busy_polling_ends_and_counts_every_call_off(
    models: Path, demo: Oracle, generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answered, refused, late or left: none is thought to go on; a stream that is open changes nothing."""
    windows = demo.random_windows(generator, 3)
    async with serving(models, transport="http2", busy_poll_us="1000") as running:
        own = running.server._grpc
        assert isinstance(own, Http2Server)
        turn, turns = own.busy_poll._turn, list[object]()

        def counted(loop: asyncio.AbstractEventLoop) -> None:
            turns.append(loop)
            turn(loop)

        monkeypatch.setattr(own.busy_poll, "_turn", counted)
        watch = aiter(
            health_pb2_grpc.HealthStub(running.channel).Watch(health_pb2.HealthCheckRequest(service="readiness"))
        )
        await anext(watch)
        found = await running.predict("demo", windows)
        await eventually(lambda: turns, "a turn")
        demo.assert_right(found, demo.predict(windows))
        await eventually(lambda: not own.busy_poll.is_turning, "sleep")
        await refusal(running.next_value.Predict(predict_request("nobody", windows)))
        with running.held("demo") as held:
            first = asyncio.create_task(running.predict("demo", windows))
            await eventually(lambda: held.batches, "a run")
            await refusal(running.next_value.Predict(predict_request("demo", windows), timeout=0.05))
            leaver = running.next_value.Predict(predict_request("demo", windows))
            await eventually(lambda: own.num_unary_calls == 2, "both")
            leaver.cancel()
            await eventually(lambda: own.num_unary_calls == 1, "the one that is held")
            assert not own.busy_poll.is_turning
            held.release.set()
            await first
        assert own.num_unary_calls == 0
        await eventually(lambda: not own.busy_poll.is_turning, "sleep")


async def test_streams_in_order_and_to_their_end(http2: Running, demo: Oracle, generator: np.random.Generator) -> None:
    windows = [demo.random_windows(generator, n) for n in (1, 5, 2, 400, 1)]

    async def requests() -> AsyncIterator[oip.ModelInferRequest]:
        for k, each in enumerate(windows):
            request = infer_request("demo", each)
            request.id = str(k)
            yield request

    stream = http2.inference.ModelStreamInfer(requests(), timeout=LIMIT_SECONDS)
    answers = [answer.infer_response async for answer in stream]
    assert [answer.id for answer in answers] == ["0", "1", "2", "3", "4"]
    for answer, each in zip(answers, windows, strict=True):
        demo.assert_right(infer_outputs(answer)["next"], demo.predict(each))
    assert await stream.code() is CODE.OK


async def test_health_is_watched_until_the_end(models: Path) -> None:
    async with serving(models, transport="http2") as running:
        watch = health_pb2_grpc.HealthStub(running.channel).Watch(health_pb2.HealthCheckRequest(service="readiness"))
        responses = aiter(watch)
        assert (await anext(responses)).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(running.stop())
        assert (await anext(responses)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError):
            await anext(responses)
        await stopping


async def test_a_port_that_is_taken(http2: Running, models: Path) -> None:
    with pytest.raises(StartupError, match="is the port taken"):
        async with started(models, transport="http2", grpc=f"127.0.0.1:{http2.server.grpc_port}"):
            pass


async def test_who_speaks_no_http2_is_sent_away_and_hurts_nobody(http2: Running, demo: Oracle) -> None:
    loop = asyncio.get_running_loop()
    for sent in (b"GET /metrics HTTP/1.1\r\n\r\n", frames.PREFACE + b"\xff" * 100):
        with socket.create_connection(("127.0.0.1", http2.server.grpc_port)) as peer:
            peer.setblocking(False)
            await loop.sock_sendall(peer, sent)
            while await asyncio.wait_for(loop.sock_recv(peer, 1000), LIMIT_SECONDS):
                pass
    windows = np.ones((1, 5, 1), np.float32)
    reply = await http2.next_value.Predict(predict_request("demo", windows))
    demo.assert_right(to_numpy(reply.predictions), demo.predict(windows))


async def test_a_caller_that_never_reads_is_not_read_either(http2: Running, demo: Oracle) -> None:
    """Its answers wait in bounds: by its windows, its streams, and its socket."""
    peer, loop = Peer(), asyncio.get_running_loop()
    message = predict_request("demo", np.ones((2000, 5, 1), np.float32), horizon=20).SerializeToString()
    body = b"\0" + len(message).to_bytes(4, "big") + message
    method, path = (":method", "POST"), (":path", "/nextvalue.v1.NextValue/Predict")
    headers = [method, (":scheme", "http"), path, ("content-type", "application/grpc")]
    with socket.create_connection(("127.0.0.1", http2.server.grpc_port)) as caller:
        caller.setblocking(False)
        sent = frames.PREFACE + frames.settings({frames.Setting.INITIAL_WINDOW_SIZE: 0})
        for k in range(1, 101, 2):
            sent += peer.headers(k, headers) + frames.frame(frames.DATA, frames.END_STREAM, k, body)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(loop.sock_sendall(caller, sent), 2)
        windows = np.ones((1, 5, 1), np.float32)
        reply = await http2.next_value.Predict(predict_request("demo", windows), timeout=LIMIT_SECONDS)
        demo.assert_right(to_numpy(reply.predictions), demo.predict(windows))
