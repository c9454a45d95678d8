"""How many connections and calls a peer may have, and for how long, over a real socket."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub
from server.http2 import frames
from server.http2.limits import Lifetime
from server.http2.listener import Http2Server
from server.transport.ports import transport_of
from tests.server.harness import LIMIT_SECONDS, eventually, make_config, predict_request, refusal
from tests.server.http2.peer import Peer
from tests.server.locked import TRANSPORTS, ask, channel_to, serving_with

WINDOW = np.zeros((1, 5, 1), np.float32)
ECHO = "/s/Echo"


@contextlib.asynccontextmanager
async def echoing(**options: Any) -> AsyncIterator[tuple[Http2Server, int]]:
    """A server of ours that gives back what it gets, when `release` is set."""

    async def echo(request: bytes, _: Any) -> bytes:
        return request

    server = Http2Server(max_message_bytes=1000, **options)
    handler = grpc.unary_unary_rpc_method_handler(echo, bytes, bytes)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield server, port
    finally:
        await server.stop(None)


async def all_said(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    loop, said = asyncio.get_running_loop(), b""
    with contextlib.suppress(ConnectionResetError):
        while data := await asyncio.wait_for(loop.sock_recv(connection, 1 << 16), LIMIT_SECONDS):
            said += data
    return said


def connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setblocking(False)
    return connection


async def test_an_address_has_so_many_connections_and_no_more() -> None:
    async with echoing(max_connections_per_peer=2) as (server, port):
        first, second = connected(port), connected(port)
        await eventually(lambda: len(server._connections) == 2, "both")
        third = connected(port)
        assert b"too many connections from this address" in await all_said(third)
        third.close()
        first.close()
        await eventually(lambda: len(server._connections) == 1, "one to go")
        with connected(port) as fourth:
            await eventually(lambda: len(server._connections) == 2, "room again")
            fourth.close()
            second.close()
            await eventually(lambda: not server._connections, "the end")
        assert not server.places.taken, "addresses that left are forgotten"


async def test_a_peer_that_does_not_answer_is_let_go() -> None:
    lifetime = Lifetime(keepalive_seconds=0.1, keepalive_timeout_seconds=0.1)
    async with echoing(lifetime=lifetime) as (_, port):
        with connected(port) as silent:
            said = await all_said(silent)
            assert frames.frame(frames.PING, 0, 0, b"alive? 8") in said
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            echo: Any = channel.unary_unary(ECHO)
            assert await echo(b"1") == b"1"
            # A gRPC client answers: its connection is the same after many pings.
            before = channel.get_state()
            with connected(port) as silent:
                await all_said(silent)
            assert (before, channel.get_state()) == (grpc.ChannelConnectivity.READY,) * 2


async def test_connections_end_by_age_and_no_call_notices(models: Path) -> None:
    """Calls go on all the while, over one connection after the other."""
    options = {"transport": "http2", "max_connection_age_seconds": 0.2}
    async with serving_with(models, **options) as server, channel_to(server, None) as channel:
        assert isinstance(server._grpc, Http2Server)
        peers: set[str] = set()

        async def call() -> None:
            assert isinstance(server._grpc, Http2Server)
            while len(peers) < 4:
                await ask(channel)
                peers.update(each.peer for each in server._grpc._connections)

        await asyncio.wait_for(asyncio.gather(*(call() for _ in range(4))), LIMIT_SECONDS)


def test_grpcio_is_told_the_same(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, int] = {}

    def server(*, options: list[tuple[str, int]]) -> None:
        told.update(options)

    monkeypatch.setattr(grpc.aio, "server", server)
    config = make_config(models, transport="grpcio", max_connection_age_seconds=600, keepalive_seconds=0, max_streams=7)
    transport_of(config, shared=False)
    assert (told["grpc.max_connection_age_ms"], told["grpc.max_connection_age_grace_ms"]) == (600_000, 30_000)
    assert (told["grpc.keepalive_time_ms"], told["grpc.max_concurrent_streams"]) == (2**31 - 1, 7)


async def test_more_calls_than_a_connection_may_have_wait_in_the_client(models: Path) -> None:
    async with serving_with(models, transport="http2", max_streams=2) as server, channel_to(server, None) as channel:
        assert isinstance(server._grpc, Http2Server)
        assert server._grpc.limits.max_streams == 2
        names = await asyncio.gather(*(ask(channel) for _ in range(20)))
        assert all(names)


async def test_a_peer_that_opens_more_is_refused(models: Path) -> None:
    async with serving_with(models, transport="http2", max_streams=1) as server:
        peer = Peer()
        headers = [(":method", "POST"), (":scheme", "http"), (":path", "/nextvalue.v1.NextValue/Predict")]
        headers.append(("content-type", "application/grpc"))
        with connected(server.grpc_port) as connection:
            sent = frames.PREFACE + frames.settings({}) + peer.headers(1, headers) + peer.headers(3, headers)
            await asyncio.get_running_loop().sock_sendall(connection, sent)
            said = b""
            while frames.reset(3, frames.Code.REFUSED_STREAM) not in said:
                said += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, 1 << 16), LIMIT_SECONDS)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_messages_and_horizons_have_their_limits(models: Path, transport: str) -> None:
    options = {"transport": transport, "max_message_mib": 1, "max_horizon": 3}
    async with serving_with(models, **options) as server, channel_to(server, None) as channel:
        stub: Any = NextValueStub(channel)
        code = grpc.StatusCode
        large = predict_request("demo", np.zeros((60_000, 5, 1), np.float32))
        far = predict_request("demo", WINDOW, horizon=4)
        for request, expected in ((large, code.RESOURCE_EXHAUSTED), (far, code.INVALID_ARGUMENT)):
            assert (await refusal(stub.Predict(request, timeout=LIMIT_SECONDS))).code is expected
