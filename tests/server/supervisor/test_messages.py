"""One JSON object a line, and what is none is refused."""

import asyncio
import socket
from pathlib import Path

import pytest

from server.status.facts import Facts, ModelFacts, VersionFacts
from server.supervisor import messages
from server.supervisor.line import Line
from server.supervisor.messages import (
    MAX_LINE_BYTES,
    Announce,
    Answer,
    Ask,
    BadMessage,
    Change,
    Changed,
    Drain,
    Draining,
    Failed,
    FromWorker,
    Ready,
    Start,
    ToWorker,
    encode,
    from_worker,
    to_worker,
)
from tests.server.harness import make_config

CONFIG = make_config(Path("/some where/ü"), workers=3, parity_share="0.1", admin="on")
FACTS = Facts(models=[ModelFacts(name="demo", default=2, versions=[VersionFacts(number=2, state="serving")])])
READY = Ready(serving={"demo": [2, 1]}, facts=FACTS)
TO_WORKER: list[ToWorker] = [
    Start(worker=2, config=CONFIG, unloaded=["demo"]),
    Announce(),
    Change(number=3, action="load", model="demo"),
    Answer(ask=1, error="LoadFailed", message="line 1\nline 2"),
    Drain(),
]
FROM_WORKER: list[FromWorker] = [
    READY,
    Failed(message="no model"),
    Draining(),
    Ask(ask=1, action="unload", model="demo"),
    Changed(number=3, serving={}),
]


@pytest.mark.parametrize("message", TO_WORKER)
def test_to_a_worker_and_back(message: ToWorker) -> None:
    assert to_worker(encode(message)) == message
    assert encode(message).count(b"\n") == 1


@pytest.mark.parametrize("message", FROM_WORKER)
def test_from_a_worker_and_back(message: FromWorker) -> None:
    assert from_worker(encode(message)) == message


def test_each_message_is_in_the_list_above() -> None:
    assert {type(message) for message in TO_WORKER} == set(messages.ToWorker.__args__)
    assert {type(message) for message in FROM_WORKER} == set(messages.FromWorker.__args__)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"ready\n",
        b"{}\n",
        b'{"type":"drain"}\n',
        b'{"type":"draining","more":1}\n',
        b'{"type":"ask","ask":1,"action":"delete","model":"demo"}\n',
        b'{"type":"changed","number":"1","serving":{}}\n',
        b"\xff\n",
    ],
)
def test_what_is_no_message(line: bytes) -> None:
    with pytest.raises(BadMessage):
        from_worker(line)


async def test_a_line_ends_with_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    line, other = await Line.over(ours, from_worker), await Line.over(theirs, to_worker)
    other.send(READY)
    other.send(Draining())
    await other.close()
    assert [message async for message in line.messages()] == [READY, Draining()]
    line.send(Drain())  # to nobody
    await line.close()
    line.send(Drain())


@pytest.mark.parametrize(
    ("sent", "read"),
    [(b'{"type":"draining"}\n{"type":"dra', [Draining()]), (b'{"type":"draining"}', []), (b"", [])],
)
async def test_what_was_cut_off_is_no_message(sent: bytes, read: list[FromWorker]) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(sent)
    theirs.close()
    line = await Line.over(ours, from_worker)
    assert [message async for message in line.messages()] == read
    await line.close()


async def test_a_line_without_end_is_refused() -> None:
    ours, theirs = socket.socketpair()
    line = await Line.over(ours, from_worker)
    with theirs:
        theirs.setblocking(False)
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(theirs, b"x" * (2 * MAX_LINE_BYTES + 2)))
        with pytest.raises(BadMessage, match="a line of more than"):
            await line.receive()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await line.close()
