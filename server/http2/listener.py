"""Ports and connections: what `grpc.aio.server` is to a program, as far as this server uses it."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import grpc

from server.http2.acceptor import TlsAcceptor
from server.http2.busy_poll import BusyPoll
from server.http2.calls import Handler
from server.http2.limits import Lifetime, Limits
from server.http2.places import Places
from server.http2.protocol import FAREWELL_SECONDS, Admits, Connected, Guarded
from server.http2.sockets import BACKLOG, bind
from server.http2.upkeep import period_seconds

FORGIVE_SECONDS = 10.0
# TLS that is not agreed upon by then is given up.
HANDSHAKE_SECONDS = 10.0


class _Details(NamedTuple):
    """What a generic handler chooses by."""

    method: str
    invocation_metadata: Any


class Http2Server:
    """Serves registered handlers over HTTP/2: cleartext with prior knowledge, or TLS with ALPN."""

    def __init__(
        self,
        *,
        max_message_bytes: int,
        reuse_port: bool = False,
        limits: Limits | None = None,
        lifetime: Lifetime | None = None,
        max_connections_per_peer: int = 0,
        handshake_seconds: float = HANDSHAKE_SECONDS,
        busy_poll_seconds: float = 0.0,
    ) -> None:
        """`reuse_port`: other processes of this user may listen on the same port, and each has its share of callers.

        One address may have `max_connections_per_peer` connections, 0: any number. After an answer the next call is
        waited for without sleeping, for `busy_poll_seconds`.
        """
        self._reuse_port = reuse_port
        self._generic: list[grpc.GenericRpcHandler] = []
        self._handlers: dict[str, Handler] = {}
        self.max_message_bytes = max_message_bytes
        self.limits = limits or Limits()
        self.lifetime = lifetime or Lifetime()
        # Whose calls are read at all; None: everybody's.
        self.admits: Admits | None = None
        self.places = Places(max_connections_per_peer)
        self._handshake_seconds = handshake_seconds
        self._tls: ssl.SSLContext | None = None
        # A stream may be open for hours and want nothing.
        self.num_unary_calls = 0
        self.busy_poll = BusyPoll(busy_poll_seconds, is_idle=lambda: not self.num_unary_calls)
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server | TlsAcceptor] = []
        self._connections: set[Connected] = set()
        self._keeping: list[asyncio.Task[None]] = []
        self._ended = asyncio.Event()
        self._is_stopping = False
        # Set by every connection that has no call left, that has read what it was told, or that is gone.
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
            bound = bind(address, reuse_port=self._reuse_port)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"cannot bind {address!r}: {error}") from None
        self._sockets += bound
        name = bound[0].getsockname()
        return name[1] if isinstance(name, tuple) else 1

    def add_tls_port(self, address: str, context: ssl.SSLContext) -> int:
        """As `add_insecure_port`, encrypted; then all ports of this server are."""
        self._tls = context
        return self.add_insecure_port(address)

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._servers = await self._listen()
        self._keeping.append(loop.create_task(self._forgive()))
        period = period_seconds(self.lifetime)
        if period < float("inf"):
            self._keeping.append(loop.create_task(self._look_after(period)))

    async def _listen(self) -> list[asyncio.Server | TlsAcceptor]:
        """Accept from the bound sockets, by copies that a successor may listen beside."""
        loop = asyncio.get_running_loop()
        kind = Connected if self.admits is None else Guarded
        if self._tls is None:
            return [
                await loop.create_server(lambda: kind(self), sock=bound.dup(), backlog=BACKLOG)
                for bound in self._sockets
            ]
        return [
            TlsAcceptor(
                bound.dup(),
                lambda place: kind(self, place),
                self.places,
                context=self._tls,
                handshake_seconds=self._handshake_seconds,
                shutdown_seconds=FAREWELL_SECONDS,
            )
            for bound in self._sockets
        ]

    async def renew(self, context: ssl.SSLContext) -> None:
        """Accept what comes from now on with another context. Connections that are there live on; none is missed."""
        if self._is_over():
            return
        self._tls = context
        fresh = await self._listen()
        # It may have been stopped meanwhile.
        closed, self._servers = (fresh, []) if self._is_over() else (self._servers, fresh)
        for server in closed:
            server.close()

    def _is_over(self) -> bool:
        return self._is_stopping

    async def _look_after(self, period: float) -> None:
        while True:
            await asyncio.sleep(period)
            for connection in list(self._connections):
                connection.look_after()

    async def _forgive(self) -> None:
        while True:
            await asyncio.sleep(FORGIVE_SECONDS)
            for connection in self._connections:
                connection.connection.forgive()

    async def stop(self, grace: float | None) -> None:
        """Take no new calls, let those in progress end within `grace` seconds, cut what is left, and close.

        Peers that do not read may keep it FAREWELL_SECONDS longer.
        """
        self._is_stopping = True
        for server in self._servers:
            server.close()
        for bound in self._sockets:  # those that never came to listen
            bound.close()
        if grace:
            await self._see_off(grace)
        for one in list(self._connections):
            one.close()
        for server in self._servers:
            if isinstance(server, TlsAcceptor):
                server.end()
        for task in self._keeping:
            task.cancel()
        self._ended.set()

    async def _see_off(self, grace: float) -> None:
        """As RFC 9113 asks (section 6.8), so that no call is lost on its way, nor an answer.

        Peers are asked to go; when all have read so, no more calls are taken; when those that came are answered and the
        answers read, connections close. Whoever does not read has FAREWELL_SECONDS for each.
        """
        loop = asyncio.get_running_loop()
        give_up, patience = loop.time() + grace, min(grace, FAREWELL_SECONDS)
        for one in list(self._connections):
            one.warn()
        await self._until(lambda: not any(one.owes for one in self._connections), patience)
        for one in list(self._connections):
            one.go_away()
        await self._until(
            lambda: not any(one.connection.num_streams for one in self._connections), give_up - loop.time()
        )
        for one in list(self._connections):
            one.leave()
        await self._until(lambda: not self._connections, max(patience, give_up - loop.time()))

    async def _until(self, is_so: Callable[[], bool], seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not is_so():
                    self._emptied.clear()
                    await self._emptied.wait()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 (grpc.aio's)
        """Until `stop` is done; whether it took longer than `timeout` seconds."""
        try:
            await asyncio.wait_for(self._ended.wait(), timeout)
        except TimeoutError:
            return True
        return False

    def opened(self, protocol: Connected) -> None:
        """A connection is there."""
        self._connections.add(protocol)
        if self._is_stopping:
            protocol.go_away()

    def emptied(self) -> None:
        """A connection has no call left."""
        self._emptied.set()

    def closed(self, protocol: Connected) -> None:
        """A connection is gone."""
        self._connections.discard(protocol)
        self._emptied.set()
