"""What a handler sees of its call, by the names that grpc.aio has for it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import grpc

from server.doors.certificates import NAMES

Metadata = Iterable[tuple[str, str | bytes]]


class Aborted(Exception):
    """The handler ended its call with a status."""


class Call(Protocol):
    """The parts of a call that a context acts on."""

    @property
    def names(self) -> tuple[str, ...]:
        """Those in the certificate of the caller."""
        ...

    async def write(self, response: Any) -> None:
        """Send a message, and wait until there is room for the next."""
        ...


class Context:
    """One call's deadline, metadata and status."""

    __slots__ = (
        "_call", "_deadline", "_done_callbacks", "_loop", "_metadata", "_peer", "status", "status_details", "trailing",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        loop: asyncio.AbstractEventLoop,
        *,
        metadata: tuple[tuple[str, str | bytes], ...],
        deadline: float | None,
        peer: str,
    ) -> None:
        """`deadline` is on the loop's clock, seconds."""
        self._call = call
        self._loop = loop
        self._metadata = metadata
        self._deadline = deadline
        self._peer = peer
        self.status = grpc.StatusCode.OK
        self.status_details = ""
        self.trailing: Metadata = ()
        self._done_callbacks: list[Callable[[Any], None]] = []

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What the caller sent beside its messages."""
        return self._metadata

    def peer(self) -> str:
        """Where the caller is, as gRPC writes it."""
        return self._peer

    def auth_context(self) -> dict[str, list[bytes]]:
        """The names in the caller's certificate, by the key that gRPC has for them; empty without any."""
        names = self._call.names
        return {NAMES: [name.encode() for name in names]} if names else {}

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None without one."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - self._loop.time())

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """To be sent with the status."""
        self.trailing = metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """The status that the call ends with when its handler returns."""
        self.status = code

    def set_details(self, details: str) -> None:
        """What goes with it."""
        self.status_details = details

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> None:
        """End the call with this status. Always raises."""
        self.status, self.status_details = code, details
        if trailing_metadata:
            self.trailing = trailing_metadata
        raise Aborted

    def write(self, response: Any) -> Awaitable[None]:
        """Send one of many responses."""
        return self._call.write(response)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Called with this context when the call has ended, however it did."""
        self._done_callbacks.append(callback)

    def ended(self) -> None:
        """The call has ended."""
        # Otherwise the two would hang together in a circle, and wait for the collector.
        self._call = _ENDED
        for callback in self._done_callbacks:
            callback(self)


class _Ended:
    """In place of a call that is over."""

    names: tuple[str, ...] = ()

    async def write(self, response: Any) -> None:
        """Nothing: nobody waits for it."""


_ENDED = _Ended()
