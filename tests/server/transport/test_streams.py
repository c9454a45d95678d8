"""Streams without gRPC: order, bounds, ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from server.errors import Draining
from server.transport.streams import MAX_UNDER_WAY, Streams
from tests.server.harness import eventually


class Peer:
    """A caller that sends numbers and reads answers; each answer waits for its own door."""

    def __init__(self, count: int, *, hangs_on: bool = False) -> None:
        self.doors = [asyncio.Event() for _ in range(count)]
        self.sent: list[int] = []
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.read: list[int] = []
        self._hangs_on = hangs_on

    async def requests(self) -> AsyncIterator[int]:
        for k in range(len(self.doors)):
            self.sent.append(k)
            yield k
        if self._hangs_on:
            await asyncio.Event().wait()

    async def answer(self, k: int) -> int:
        self.begun.append(k)
        try:
            await self.doors[k].wait()
        except asyncio.CancelledError:
            self.cancelled.append(k)
            raise
        return k

    async def write(self, k: int) -> None:
        self.read.append(k)

    def carried_by(self, streams: Streams) -> "asyncio.Task[None]":
        return asyncio.create_task(streams.carry(self.requests(), self.answer, self.write))


async def test_answers_keep_the_order_of_requests() -> None:
    """The last to be asked is the first to be done."""
    peer = Peer(5)
    stream = peer.carried_by(Streams())
    await eventually(lambda: len(peer.begun) == 5, "all at once")
    for k in (4, 3, 2, 1):
        peer.doors[k].set()
        await asyncio.sleep(0)
    assert peer.read == []
    peer.doors[0].set()
    await stream
    assert peer.read == [0, 1, 2, 3, 4]


async def test_a_stream_has_a_bound() -> None:
    """No more is read than may be under way; an answer that is written makes room for one."""
    peer = Peer(MAX_UNDER_WAY + 10)
    stream = peer.carried_by(Streams())
    await eventually(lambda: len(peer.begun) == MAX_UNDER_WAY, "a full stream")
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(peer.sent) == MAX_UNDER_WAY
    peer.doors[1].set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(peer.sent) == MAX_UNDER_WAY, "the first is still to be written"
    peer.doors[0].set()
    await eventually(lambda: len(peer.sent) == MAX_UNDER_WAY + 2, "room for two")
    for door in peer.doors:
        door.set()
    await stream
    assert peer.read == list(range(MAX_UNDER_WAY + 10))


async def test_no_requests_are_no_answers() -> None:
    peer = Peer(0)
    await peer.carried_by(Streams())
    assert peer.read == []


async def test_who_leaves_takes_his_own_along() -> None:
    streams = Streams()
    leaver, other = Peer(3, hangs_on=True), Peer(3, hangs_on=True)
    leaving, staying = leaver.carried_by(streams), other.carried_by(streams)
    await eventually(lambda: len(leaver.begun) == len(other.begun) == 3, "both at work")
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert sorted(leaver.cancelled) == [0, 1, 2]
    for door in other.doors:
        door.set()
    await eventually(lambda: other.read == [0, 1, 2], "the other's answers")
    assert not staying.done()
    streams.end()
    with pytest.raises(Draining):
        await staying


async def test_an_end_answers_what_was_read() -> None:
    streams = Streams()
    peer = Peer(2, hangs_on=True)
    stream = peer.carried_by(streams)
    await eventually(lambda: len(peer.begun) == 2, "both at work")
    streams.end()
    await asyncio.sleep(0)
    assert not stream.done()
    for door in peer.doors:
        door.set()
    with pytest.raises(Draining, match="shutting down"):
        await stream
    assert peer.read == [0, 1]


async def test_an_end_after_the_last_request_is_none() -> None:
    streams = Streams()
    peer = Peer(1)
    stream = peer.carried_by(streams)
    await eventually(lambda: peer.begun, "the request")
    await asyncio.sleep(0.01)
    streams.end()
    peer.doors[0].set()
    await stream
    assert peer.read == [0]


async def test_a_stream_that_begins_after_the_end() -> None:
    streams = Streams()
    streams.end()
    peer = Peer(2)
    with pytest.raises(Draining):
        await peer.carried_by(streams)
    assert peer.sent == peer.read == []


async def test_requests_that_break_off() -> None:
    """What was read before is answered; the fault is told."""
    peer = Peer(1)
    peer.doors[0].set()

    async def broken() -> AsyncIterator[int]:
        yield 0
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await Streams().carry(broken(), peer.answer, peer.write)
    assert peer.read == [0]


async def test_a_write_that_fails() -> None:
    """The rest is given up."""
    peer = Peer(3, hangs_on=True)

    async def write(k: int) -> None:
        raise OSError("closed")

    stream = asyncio.create_task(Streams().carry(peer.requests(), peer.answer, write))
    await eventually(lambda: len(peer.begun) == 3, "all at work")
    peer.doors[0].set()
    with pytest.raises(OSError, match="closed"):
        await stream
    assert sorted(peer.cancelled) == [1, 2]
