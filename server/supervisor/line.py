"""The line between a supervisor and a worker: a socket pair, the worker's end its standard input.

It ends when either process does, however it died: that is how a worker notices that nobody looks after it.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Generic, Self, TypeVar

from server.supervisor.messages import MAX_LINE_BYTES, BadMessage, FromWorker, ToWorker, encode

# What comes in: at a worker ToWorker, at its supervisor FromWorker.
Received = TypeVar("Received")


class Line(Generic[Received]):
    """One end."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decode: Callable[[bytes], Received]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decode = decode

    @classmethod
    async def over(cls, end: socket.socket, decode: Callable[[bytes], Received]) -> Self:
        """Over one end of a socket pair, which is the line's from now on."""
        reader, writer = await asyncio.open_connection(sock=end, limit=MAX_LINE_BYTES)
        return cls(reader, writer, decode)

    def send(self, message: ToWorker | FromWorker) -> None:
        """Never waits: few messages are under way at any time. To an end that is gone it does nothing."""
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    async def receive(self) -> Received | None:
        """The next message; None once the other end is gone. Raises BadMessage for what is none, or too long a line."""
        try:
            line = await self._reader.readline()
        except ValueError:
            raise BadMessage(f"a line of more than {MAX_LINE_BYTES} bytes") from None
        except OSError:
            return None
        # What has no end was cut off by its sender's.
        return self._decode(line) if line.endswith(b"\n") else None

    async def messages(self) -> AsyncIterator[Received]:
        """Until the other end is gone. Raises BadMessage."""
        while (message := await self.receive()) is not None:
            yield message

    async def close(self) -> None:
        """Say what is still to be said, and hang up."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
