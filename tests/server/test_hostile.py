"""What somebody may try who has no token, or has one no longer: over raw HTTP/2, as no client of gRPC's would."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from server.app import Server
from server.errors import StartupError
from server.http2 import frames
from server.http2.listener import Http2Server
from tests.certificates import token_entry, write_access
from tests.server.harness import LIMIT_SECONDS, eventually, make_config, predict_request
from tests.server.http2.peer import Peer
from tests.server.locked import LIMITED, House, ask, channel_to, code_of, serving_with

MESSAGE = predict_request("demo", np.zeros((1, 5, 1), np.float32)).SerializeToString()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def locked(house: House) -> dict[str, Any]:
    return {"transport": "http2", "access": house.access, "plaintext_tokens": "on"}


def head(path: str, token: str | None = None) -> list[tuple[str, str]]:
    found = [(":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", "application/grpc")]
    return found + ([("authorization", f"Bearer {token}")] if token else [])


def body(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


@contextlib.contextmanager
def raw(port: int, settings: dict[frames.Setting, int] | None = None) -> Iterator[tuple[Peer, socket.socket]]:
    """A connection that has said hello; the peer only encodes for it."""
    peer = Peer()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setblocking(False)
        connection.sendall(frames.PREFACE + frames.settings(settings or {}))
        yield peer, connection


async def status_of(peer: Peer, connection: socket.socket) -> str:
    """The `grpc-status` of the first call that ends."""
    loop, said = asyncio.get_running_loop(), b""
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            said += await loop.sock_recv(connection, 1 << 16)
            rest = said
            while len(rest) >= 9 and len(rest) >= 9 + (length := int.from_bytes(rest[:3], "big")):
                if rest[3] == frames.HEADERS and rest[4] & frames.END_STREAM:
                    return dict(peer.read_headers(rest[9 : 9 + length]))["grpc-status"]
                rest = rest[9 + length :]


async def test_a_token_taken_back_before_the_message_runs_nothing(models: Path, house: House) -> None:
    async with serving_with(models, **locked(house)) as server:
        assert server.locks.access is not None
        assert isinstance(server._grpc, Http2Server)
        with raw(server.grpc_port) as (peer, connection):
            connection.sendall(peer.headers(1, head("/nextvalue.v1.NextValue/Predict", LIMITED)))
            await eventually(lambda: any(each.calls for each in server._grpc._connections), "the call")  # type: ignore[union-attr]
            write_access(house.access, token_entry("another"))
            assert server.locks.access.look()
            connection.sendall(peer.data(1, body(MESSAGE)))
            assert await status_of(peer, connection) == "16"
        predicted = server.metrics.registry.get_sample_value(
            "nextvalue_predictions_total", {"model": "demo", "version": "1"}
        )
        assert not predicted


async def test_the_last_token_can_be_taken_back(models: Path, house: House) -> None:
    """A server does not start without anybody who could come in, but may come to that."""
    async with serving_with(models, **locked(house)) as server, channel_to(server, None) as channel:
        assert await ask(channel, LIMITED)
        assert server.locks.access is not None
        house.access.write_text('{"tokens": []}')
        assert server.locks.access.look()
        assert (await code_of(server, None, LIMITED)).name == "UNAUTHENTICATED"
    with pytest.raises(StartupError, match="neither tokens nor certificates"):
        Server(make_config(models, **locked(house)))


async def test_a_watch_that_is_not_read_holds_up_nothing(models: Path) -> None:
    """Neither a change of status nor the drain."""
    async with serving_with(models, transport="http2", health_listen="127.0.0.1:0") as server:
        for port in (server.health_port, server.grpc_port):
            with raw(port, {frames.Setting.INITIAL_WINDOW_SIZE: 0}) as (peer, connection):
                for stream, service in ((1, ""), (3, "readiness")):
                    message = health_pb2.HealthCheckRequest(service=service).SerializeToString()
                    sent = peer.headers(stream, head("/grpc.health.v1.Health/Watch"))
                    connection.sendall(sent + peer.data(stream, body(message)))
                await eventually(lambda: len(server._health._watches) == 2, "both watches")
                async with asyncio.timeout(LIMIT_SECONDS):
                    for status in (health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVING):
                        await server._health.set("", status)
            await eventually(lambda: not server._health._watches, "the end of both")
        assert not server._health._changes, "what nobody watches is remembered"
        with raw(server.grpc_port, {frames.Setting.INITIAL_WINDOW_SIZE: 0}) as (peer, connection):
            connection.sendall(peer.headers(1, head("/grpc.health.v1.Health/Watch")) + peer.data(1, body(b"")))
            await eventually(lambda: server._health._watches, "a watch")
            async with asyncio.timeout(LIMIT_SECONDS):
                await server.stop()


async def test_a_refused_message_ends_its_handler_too(models: Path) -> None:
    async with serving_with(models, transport="http2") as server:
        assert server._streams is not None
        with raw(server.grpc_port) as (peer, connection):
            path = "/inference.GRPCInferenceService/ModelStreamInfer"
            too_large = b"\0" + (1 << 31).to_bytes(4, "big")
            connection.sendall(peer.headers(1, head(path)) + peer.data(1, too_large, ends=False))
            assert await status_of(peer, connection) == "8"
            await eventually(lambda: not server._streams._readers, "the end of its handler")  # type: ignore[union-attr]


async def test_the_port_for_probes_has_limits(models: Path) -> None:
    async with serving_with(models, transport="http2", health_listen="127.0.0.1:0") as server:
        assert server._probed is not None
        assert server._probed.limits.max_streams == 16
        assert server._probed.lifetime.max_age_seconds == 600
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(raw(server.health_port))
            await eventually(lambda: len(server._probed._connections) == 64, "as many as may stay")  # type: ignore[union-attr]
