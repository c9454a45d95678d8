"""Ports and connections: what `grpc.aio.server` is to a program, as far as this server uses it."""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

import grpc

from server.http2 import frames
from server.http2.busy_poll import BusyPoll
from server.http2.calls import Handler, Head, ServerCall, head_of
from server.http2.connection import Connection, Limits
from server.http2.headers import Headers, write
from server.http2.messages import Refused, trailers_only

logger = logging.getLogger("nextvalue.http2")

FORGIVE_SECONDS = 10.0
BACKLOG = 4096
NOT_GRPC = write([(":status", "415")])


class _Details(NamedTuple):
    """What a generic handler chooses by."""

    method: str
    invocation_metadata: Any


class Http2Server:
    """Serves registered handlers over cleartext HTTP/2 with prior knowledge."""

    def __init__(
        self,
        *,
        max_message_bytes: int,
        reuse_port: bool = False,
        limits: Limits | None = None,
        busy_poll_seconds: float = 0.0,
    ) -> None:
        """`reuse_port`: other processes of this user may listen on the same port, and each has its share of callers.

        After an answer the next call is waited for without sleeping, for `busy_poll_seconds`.
        """
        self._reuse_port = reuse_port
        self._generic: list[grpc.GenericRpcHandler] = []
        self._handlers: dict[str, Handler] = {}
        self.max_message_bytes = max_message_bytes
        self.limits = limits or Limits()
        # A stream may be open for hours and want nothing.
        self.num_unary_calls = 0
        self.busy_poll = BusyPoll(busy_poll_seconds, is_idle=lambda: not self.num_unary_calls)
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._connections: set[_Protocol] = set()
        self._forgiving: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._is_stopping = False
        # Set by every connection that has no call left.
        self._emptied = asyncio.Event()

    # ---- as generated code sees it ----

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Add services by handlers that are asked for each method."""
        self._generic += handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Add a service's methods."""
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def handler(self, path: str) -> Handler | None:
        """Whoever answers a path; None if nobody does."""
        found = self._handlers.get(path)
        if found is None:
            for generic in self._generic:
                found = generic.service(_Details(path, ()))  # type: ignore[arg-type]  # the parts that handlers read
                if found is not None:
                    # Paths that nobody answers are not remembered: there is no end to them.
                    self._handlers[path] = found
                    break
        return found

    # ---- ports ----

    def add_insecure_port(self, address: str) -> int:
        """Bind `host:port` or `unix:path`; returns the port. Raises RuntimeError if it cannot be had."""
        try:
            bound = _bind(address, reuse_port=self._reuse_port)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"cannot bind {address!r}: {error}") from None
        self._sockets += bound
        name = bound[0].getsockname()
        return name[1] if isinstance(name, tuple) else 1

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        for bound in self._sockets:
            self._servers.append(await loop.create_server(lambda: _Protocol(self), sock=bound, backlog=BACKLOG))
        self._forgiving = loop.create_task(self._forgive())

    async def _forgive(self) -> None:
        while True:
            await asyncio.sleep(FORGIVE_SECONDS)
            for connection in self._connections:
                connection.connection.forgive()

    async def stop(self, grace: float | None) -> None:
        """Take no new calls, let those in progress end within `grace` seconds, cut what is left, and close."""
        self._is_stopping = True
        for server in self._servers:
            server.close()
        for bound in self._sockets:  # those that never came to listen
            bound.close()
        for one in list(self._connections):
            one.go_away()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace or 0):
                while any(one.connection.num_streams for one in self._connections):
                    self._emptied.clear()
                    await self._emptied.wait()
        for one in list(self._connections):
            one.cut()
        if self._forgiving is not None:
            self._forgiving.cancel()
        self._ended.set()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 (grpc.aio's)
        """Until `stop` is done; whether it took longer than `timeout` seconds."""
        try:
            await asyncio.wait_for(self._ended.wait(), timeout)
        except TimeoutError:
            return True
        return False

    def opened(self, protocol: "_Protocol") -> None:
        """A connection is there."""
        self._connections.add(protocol)
        if self._is_stopping:
            protocol.go_away()

    def emptied(self) -> None:
        """A connection has no call left."""
        self._emptied.set()

    def closed(self, protocol: "_Protocol") -> None:
        """A connection is gone."""
        self._connections.discard(protocol)
        self._emptied.set()


def _bind(address: str, *, reuse_port: bool) -> list[socket.socket]:
    """Sockets that listen, on all addresses that a name stands for and this machine has. Raises OSError, ValueError."""
    if address.startswith("unix:"):
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(address.removeprefix("unix:"))
        return [bound]
    host, _, text = address.rpartition(":")
    port = int(text)
    found: list[socket.socket] = []
    missing: OSError | None = None
    places = dict.fromkeys(
        (family, place)
        for family, *_, place in socket.getaddrinfo(
            host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    )
    for family, place in places:
        # [::] alone takes both families; beside an address of the other it must leave that to its socket.
        alone = len(places) == 1
        try:
            found.append(_listening(family, (place[0], port, *place[2:]), reuse_port=reuse_port, alone=alone))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for other in found:
                    other.close()
                raise
            missing = error
        else:
            # Where any was to be had, all addresses have the same.
            port = found[0].getsockname()[1]
    if not found:
        raise missing or OSError(f"{host!r} has no address")
    return found


def _listening(family: int, place: tuple[object, ...], *, reuse_port: bool, alone: bool) -> socket.socket:
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not alone)
        bound.bind(place)
        # Binding alone does not tell that somebody else listens there.
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


class _Protocol(asyncio.Protocol):
    """One connection: bytes to its Connection, requests to ServerCalls."""

    def __init__(self, server: Http2Server) -> None:
        self._server = server
        self._out: list[bytes] = []
        self._is_flushing = False
        self.calls: dict[int, ServerCall] = {}
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self.connection = Connection(self, self._write, server.limits)
        self.peer = ""

    # ---- asyncio ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one by its methods alone.
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        name = transport.get_extra_info("peername")
        self.peer = f"ipv{6 if ':' in name[0] else 4}:{name[0]}:{name[1]}" if isinstance(name, tuple) else "unix:"
        self.connection.start()
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        self.connection.receive(data)
        self._tell_room()
        if self.connection.is_closed:
            self._flush()
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._server.closed(self)
        self.connection.is_closed = True
        for call in list(self.calls.values()):
            call.left()
        for number in list(self._waiting):
            self._wake(number)
        self.connection.let_go()

    def pause_writing(self) -> None:
        """The socket is full: what is to be sent waits in its streams, and nothing more is read."""
        self.connection.writable(yes=False)
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.connection.writable(yes=True)
        self._tell_room()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # ---- out ----

    def _write(self, data: bytes) -> None:
        """Gather what one turn of the loop has to say, and send it in one go."""
        self._out.append(data)
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
            self._server.busy_poll.answered(self._loop)
        self._out.clear()
        if not self.connection.num_streams:
            self._server.emptied()

    async def room(self, stream: int) -> None:
        """Wait until what the stream was given to send has gone out."""
        waiter = self._loop.create_future()
        self._waiting.setdefault(stream, []).append(waiter)
        await waiter

    def _tell_room(self) -> None:
        for number in [number for number in self._waiting if not self.connection.waits(number)]:
            self._wake(number)

    def _wake(self, number: int) -> None:
        for waiter in self._waiting.pop(number, ()):
            if not waiter.done():
                waiter.set_result(None)

    # ---- what the connection tells ----

    def on_request(self, stream: int, headers: Headers, *, ends: bool) -> None:
        """A call begins."""
        head: Head | None = headers.known or self._head(stream, headers)
        if head is not None:
            call = ServerCall(self, stream, head, self._loop, max_message_bytes=self._server.max_message_bytes)
            self.calls[stream] = call
            self._server.num_unary_calls += call.is_unary
            if ends:
                call.receive(b"", ends=True)

    def _head(self, stream: int, headers: Headers) -> Head | None:
        """What headers that come for the first time say; None if their call has been answered."""
        named = dict(headers)
        if named.get(":method") != "POST" or ":path" not in named:
            self.connection.reset(stream, frames.Code.PROTOCOL_ERROR)
            return None
        if not named.get("content-type", "").startswith("application/grpc"):
            self.connection.finish(stream, NOT_GRPC)
            return None
        handler = self._server.handler(named[":path"])
        if handler is None:
            self.connection.finish(stream, trailers_only(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))
            return None
        try:
            head = headers.known = head_of(headers, handler)
        except Refused as refused:
            self.connection.finish(stream, trailers_only(refused.code, refused.details))
            return None
        return head

    def on_data(self, stream: int, data: bytes, *, ends: bool) -> bool:
        """Some of a call's request; whether as much may follow at once."""
        call = self.calls.get(stream)
        return call is None or call.receive(data, ends=ends)

    def on_reset(self, stream: int) -> None:
        """The caller left."""
        call = self.calls.get(stream)
        if call is not None:
            call.left()
        self._wake(stream)

    def ended(self, stream: int) -> None:
        """A call is over."""
        call = self.calls.pop(stream, None)
        if call is not None:
            self._server.num_unary_calls -= call.is_unary

    # ---- the end ----

    def go_away(self) -> None:
        """Take no new calls."""
        self.connection.go_away()

    def cut(self) -> None:
        """End whatever is left."""
        for call in list(self.calls.values()):
            call.cut()
        self._flush()
        self._transport.close()
