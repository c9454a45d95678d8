"""One connection between asyncio and its Connection: bytes in and out, requests to ServerCalls."""

import asyncio
import random
import ssl
from collections.abc import Callable
from typing import Protocol, cast

import grpc

from server.doors.certificates import PROTOCOL, names_of
from server.http2 import frames
from server.http2.busy_poll import BusyPoll
from server.http2.calls import Handler, Head, ServerCall, head_of
from server.http2.connection import Connection
from server.http2.headers import Headers, write
from server.http2.limits import Lifetime, Limits
from server.http2.messages import Refused, packed, trailers_only
from server.http2.places import Place, Places
from server.http2.upkeep import Step, Upkeep

NOT_GRPC = write([(":status", "415")])
# What the pings carry, by what they ask: 8 bytes each.
PAYLOADS = {Step.PING: b"alive? 8", Step.WARN: b"warned 8"}
_ASKED = {payload: step for step, payload in PAYLOADS.items()}
# And those of a server that stops: a peer that answers has read everything before.
WARNED, LEAVING = b"stopping", b"leaving8"
# How long one that is sent away may take to read what it was told, and over TLS to say goodbye in its turn.
FAREWELL_SECONDS = 1.0
NO_MESSAGE = packed(b"")

# Of a caller's metadata and the names in his certificate: what he may do, which is for handlers; None for a stranger.
Admits = Callable[[tuple[tuple[str, str | bytes], ...], tuple[str, ...]], object | None]


class Owner(Protocol):
    """The parts of a server that a connection knows."""

    limits: Limits
    lifetime: Lifetime
    max_message_bytes: int
    num_unary_calls: int
    busy_poll: BusyPoll
    admits: Admits | None
    places: Places

    def handler(self, path: str) -> Handler | None:
        """Whoever answers a path; None if nobody does."""

    def opened(self, connection: "Connected") -> None:
        """A connection is there."""

    def emptied(self) -> None:
        """A connection has no call left."""

    def closed(self, connection: "Connected") -> None:
        """A connection is gone."""


class Connected(asyncio.Protocol):
    """One connection: bytes to its Connection, requests to ServerCalls."""

    def __init__(self, server: Owner, place: Place | None = None) -> None:
        """`place`: its own among those of its address, where it was counted before."""
        self._server = server
        self._place = place
        self._out: list[bytes] = []
        self._is_flushing = False
        self.calls: dict[int, ServerCall] = {}
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self.connection = Connection(self, self._write, server.limits)
        self.peer = ""
        # Of the machine at the other end; empty where that is this one, by a socket of its own.
        self.host = ""
        # In its certificate.
        self.names: tuple[str, ...] = ()
        # The answer that the peer owes to WARNED or LEAVING.
        self.owes = b""
        self._closing: asyncio.TimerHandle | None = None

    # ---- asyncio ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Agreed upon, where it is encrypted."""
        # uvloop's is one by its methods alone.
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self.host = name[0]
            self.peer = f"ipv{6 if ':' in name[0] else 4}:{name[0]}:{name[1]}"
        else:
            self.peer = "unix:"
        encrypted: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if encrypted is not None:
            self.names = names_of(encrypted.getpeercert())
        now = self._loop.time()
        self._upkeep = Upkeep(self._server.lifetime, now=now, fraction=random.random())  # noqa: S311 (guards nothing)
        self.connection.start()
        if encrypted is not None and encrypted.selected_alpn_protocol() != PROTOCOL:
            self._refuse(frames.Code.PROTOCOL_ERROR, f"TLS without ALPN {PROTOCOL}")
            return
        self._place = self._place or self._server.places.take(self.host)
        if self._place is None:
            self._refuse(frames.Code.ENHANCE_YOUR_CALM, "too many connections from this address")
            return
        self._server.opened(self)

    def _refuse(self, code: frames.Code, why: str) -> None:
        self.connection.close(code, why)
        self._hang_up()

    def data_received(self, data: bytes) -> None:
        """Frames, or parts of them."""
        self.connection.receive(data)
        self._tell_room()
        if self.connection.is_closed:
            self._hang_up()

    def connection_lost(self, _: Exception | None) -> None:
        """The end, whoever made it."""
        self._server.closed(self)
        if self._place is not None:
            self._place.leave()
        self.connection.is_closed = True
        if self._closing is not None:
            self._closing.cancel()
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
        """The socket has room again."""
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

    def on_pong(self, payload: bytes) -> None:
        """The peer answered a ping."""
        if asked := _ASKED.get(payload):
            self._upkeep.heard(asked)
        elif payload == self.owes:
            self.owes = b""
            if payload == LEAVING:
                self.close()
            self._server.emptied()

    # ---- the end ----

    def look_after(self) -> None:
        """Whether it has grown old, or its peer is gone."""
        step = self._upkeep.step(now=self._loop.time(), num_calls=self.connection.num_streams)
        if step is Step.WARN:
            self.connection.warn()
        if step in PAYLOADS:
            self.connection.ping(PAYLOADS[step])
        elif step is Step.GO_AWAY:
            self.go_away()
        elif step is Step.CUT:
            self.leave()
        elif step is Step.DROP:
            self.abort()

    def warn(self) -> None:
        """Ask the peer to go elsewhere. Calls that it began before it read so are still taken; until then it `owes`."""
        if self.connection.has_begun:
            self.connection.warn()
            self._ask(WARNED)

    def go_away(self) -> None:
        """Take no new calls."""
        self.connection.go_away()

    def leave(self) -> None:
        """End whatever is left, and close when the peer has read it, or after FAREWELL_SECONDS.

        A socket that is closed while something comes in is reset, and what its peer has not read by then is lost.
        """
        if self._closing is not None:
            return
        self._cut()
        if not self.connection.has_begun:
            self.close()
            return
        self._ask(LEAVING)
        self._closing = self._loop.call_later(FAREWELL_SECONDS, self.close)

    def close(self) -> None:
        """End whatever is left and close, whether or not the peer has read its answers."""
        self._cut()
        self._hang_up()

    def abort(self) -> None:
        """Close at once; nothing that waits is sent."""
        self._transport.abort()

    def _cut(self) -> None:
        self.go_away()
        for call in list(self.calls.values()):
            call.cut()

    def _hang_up(self) -> None:
        self._flush()
        self._transport.close()

    def _ask(self, payload: bytes) -> None:
        self.owes = payload
        self.connection.ping(payload)


class Guarded(Connected):
    """A connection of a server with locks: calls of strangers are refused before their messages are read."""

    def __init__(self, server: Owner, place: Place | None = None) -> None:
        super().__init__(server, place)
        self._strangers: set[int] = set()

    def on_request(self, stream: int, headers: Headers, *, ends: bool) -> None:
        """A call begins; a stranger's with a message of no bytes, which its handler refuses and counts."""
        super().on_request(stream, headers, ends=ends)
        call = self.calls.get(stream)
        admits = self._server.admits
        if call is None or ends or admits is None:
            return
        if admits(headers.known.metadata, self.names) is not None:
            return
        self._strangers.add(stream)
        call.receive(b"" if call.takes_many else NO_MESSAGE, ends=True)

    def on_data(self, stream: int, data: bytes, *, ends: bool) -> bool:
        """Some of a call's request; a stranger's is thrown away."""
        return stream in self._strangers or super().on_data(stream, data, ends=ends)

    def ended(self, stream: int) -> None:
        """A call is over."""
        super().ended(stream)
        self._strangers.discard(stream)
