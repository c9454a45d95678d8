"""Many requests and their answers, in order, over one call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from server.errors import Draining

# Of one stream: what a client sends beyond waits in its own connection.
MAX_UNDER_WAY = 32

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Streams:
    """The open streams of a server. One that ends, however it does, takes along what it has under way and no more."""

    def __init__(self) -> None:
        self._readers: set[asyncio.Task[None]] = set()
        self._ended = False

    async def carry(
        self,
        requests: AsyncIterator[Request],
        answer: Callable[[Request], Awaitable[Answer]],
        write: Callable[[Answer], Awaitable[None]],
    ) -> None:
        """Answer requests as they come, up to MAX_UNDER_WAY at once; write the answers in the requests' order.

        Returns when the requests have ended and all are answered. Raises Draining instead if the server ended the
        stream; what had been read is answered then, too.
        """
        room = asyncio.Semaphore(MAX_UNDER_WAY)
        under_way: asyncio.Queue[asyncio.Future[Answer] | None] = asyncio.Queue()
        unfinished: set[asyncio.Future[Answer]] = set()

        async def read() -> None:
            await room.acquire()
            async for request in requests:
                task = asyncio.ensure_future(answer(request))
                unfinished.add(task)
                under_way.put_nowait(task)
                await room.acquire()

        reader = asyncio.create_task(read())
        # Also of one that is cancelled before its first step.
        reader.add_done_callback(lambda _: under_way.put_nowait(None))
        self._readers.add(reader)
        if self._ended:
            reader.cancel()
        try:
            while (task := await under_way.get()) is not None:
                await write(await task)
                unfinished.discard(task)
                room.release()
            if not reader.cancelled():
                reader.result()
        finally:
            self._readers.discard(reader)
            reader.cancel()
            for each in unfinished:
                each.cancel()
            await asyncio.gather(reader, *unfinished, return_exceptions=True)
        if reader.cancelled():
            raise Draining("the server is shutting down")

    def end(self) -> None:
        """Take no further request; every stream ends when those it has are answered."""
        self._ended = True
        for reader in self._readers:
            reader.cancel()
