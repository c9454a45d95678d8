"""How a server that stops takes leave of its peers, over a real socket: no call is lost on its way, nor an answer."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from server.http2 import frames, protocol
from tests.server.harness import LIMIT_SECONDS, eventually
from tests.server.http2.peer import Peer
from tests.server.http2.test_limits import connected, echoing

HEADERS = [(":method", "POST"), (":scheme", "http"), (":path", "/s/Echo"), ("content-type", "application/grpc")]
PONG = {payload: frames.frame(frames.PING, frames.ACK, 0, payload) for payload in (protocol.WARNED, protocol.LEAVING)}
GRACE_SECONDS = 20.0


class Caller:
    """A peer that reads and writes only when told to."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._peer = Peer()
        self._said = b""

    async def send(self, *sent: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._connection, b"".join(sent))

    async def begin(self) -> None:
        """Until the server has read that it speaks HTTP/2."""
        await self.send(frames.PREFACE, frames.settings({}))
        await self.until(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def call(self, stream: int, message: bytes) -> bytes:
        body = b"\0" + len(message).to_bytes(4, "big") + message
        return self._peer.headers(stream, HEADERS) + self._peer.data(stream, body)

    async def read(self) -> bytes:
        """What comes next; nothing at the end. Raises ConnectionResetError where it did not end in peace."""
        loop = asyncio.get_running_loop()
        return await asyncio.wait_for(loop.sock_recv(self._connection, 1 << 16), LIMIT_SECONDS)

    async def until(self, wanted: bytes) -> bytes:
        """What comes up to this and with it."""
        while wanted not in self._said:
            data = await self.read()
            assert data, f"closed before {wanted!r}: {self._said!r}"
            self._said += data
        end = self._said.index(wanted) + len(wanted)
        found, self._said = self._said[:end], self._said[end:]
        return found

    async def until_closed(self) -> bytes:
        found, self._said = self._said, b""
        while data := await self.read():
            found += data
        return found


@contextlib.contextmanager
def caller(port: int) -> Iterator[Caller]:
    with connected(port) as connection:
        yield Caller(connection)


def ping(payload: bytes) -> bytes:
    return frames.frame(frames.PING, 0, 0, payload)


async def test_a_call_on_its_way_when_the_server_stops_is_answered() -> None:
    async with echoing() as (server, port):
        with caller(port) as one:
            await one.begin()
            await one.send(one.call(1, b"first"))
            await one.until(b"first")
            stopping = asyncio.create_task(server.stop(GRACE_SECONDS))
            said = await one.until(ping(protocol.WARNED))
            assert frames.go_away(frames.LAST_STREAM, frames.Code.NO_ERROR) in said
            await one.send(one.call(3, b"second"))
            await one.until(b"second")
            assert not stopping.done()
            await one.send(PONG[protocol.WARNED])
            said = await one.until(ping(protocol.LEAVING))
            assert frames.go_away(3, frames.Code.NO_ERROR) in said
            await one.send(PONG[protocol.LEAVING])
            await one.until_closed()
        await asyncio.wait_for(stopping, LIMIT_SECONDS)


async def test_an_answer_is_there_whatever_the_peer_sends_before_it_reads_it() -> None:
    """A socket closed with something unread would be reset, and take the answer with it."""
    async with echoing() as (server, port):
        with caller(port) as one:
            await one.begin()
            await one.send(one.call(1, b"answer"))
            await eventually(lambda: any(each.connection._last_stream for each in server._connections), "the call")
            stopping = asyncio.create_task(server.stop(GRACE_SECONDS))
            await asyncio.sleep(0)
            # It has read nothing of all this yet.
            await one.send(PONG[protocol.WARNED])
            for _ in range(50):
                await one.send(frames.window_update(0, 10))
                await asyncio.sleep(0.001)
            await one.until(b"answer")
            await one.until(ping(protocol.LEAVING))
            await one.send(PONG[protocol.LEAVING])
            await one.until_closed()
        await asyncio.wait_for(stopping, LIMIT_SECONDS)


async def test_calls_after_the_peer_has_read_the_warning_are_refused() -> None:
    async with echoing() as (server, port):
        with caller(port) as one:
            await one.begin()
            stopping = asyncio.create_task(server.stop(GRACE_SECONDS))
            await one.until(ping(protocol.WARNED))
            await one.send(PONG[protocol.WARNED])
            await one.until(ping(protocol.LEAVING))
            await one.send(one.call(1, b"late"), PONG[protocol.LEAVING])
            said = await one.until_closed()
            assert frames.reset(1, frames.Code.REFUSED_STREAM) in said
            assert b"late" not in said
        await asyncio.wait_for(stopping, LIMIT_SECONDS)


@pytest.mark.parametrize("begins", [True, False])
async def test_who_reads_nothing_does_not_keep_it(begins: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor who never began to speak."""
    monkeypatch.setattr("server.http2.protocol.FAREWELL_SECONDS", 0.05)
    monkeypatch.setattr("server.http2.listener.FAREWELL_SECONDS", 0.05)
    async with echoing() as (server, port):
        with caller(port) as silent:
            if begins:
                await silent.begin()
            await eventually(lambda: len(server._connections) == 1, "a connection")
            await asyncio.wait_for(server.stop(3600), LIMIT_SECONDS)
            with contextlib.suppress(ConnectionResetError):
                await silent.until_closed()
        assert not server._connections


async def test_no_grace_is_no_farewell() -> None:
    async with echoing() as (server, port):
        with caller(port) as one:
            await one.begin()
            await asyncio.wait_for(server.stop(None), LIMIT_SECONDS)
            with contextlib.suppress(ConnectionResetError):
                assert ping(protocol.LEAVING) not in await one.until_closed()


def test_pings_are_told_apart() -> None:
    assert len({protocol.WARNED, protocol.LEAVING, *protocol.PAYLOADS.values()}) == 4
