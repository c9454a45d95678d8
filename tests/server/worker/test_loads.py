"""An operator's calls, asked of all workers by way of the supervisor."""

import asyncio
from pathlib import Path

import pytest

from server.errors import Draining, LoadFailed, ModelNotFound, NotReady
from server.loader import Loader
from server.supervisor.messages import MAX_MESSAGE_CHARACTERS, Answer, Ask
from server.worker.loads import ERRORS, GroupLoads, described
from tests.server.harness import Running, eventually, serving


class Line:
    """What was asked."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []


@pytest.fixture
def line() -> Line:
    return Line()


def loads_over(line: Line, own: Loader) -> GroupLoads:
    return GroupLoads(own, line.asked.append)


async def test_the_answer_of_all(running: Running, line: Line) -> None:
    loads = loads_over(line, running.server.loader)
    calls = [asyncio.create_task(loads.load("demo")), asyncio.create_task(loads.unload("last"))]
    await eventually(lambda: len(line.asked) == 2, "both to be asked")
    assert [(each.action, each.model) for each in line.asked] == [("load", "demo"), ("unload", "last")]
    first, second = (each.ask for each in line.asked)
    assert first != second
    loads.answered(Answer(ask=second))
    await calls[1]
    assert not calls[0].done()
    loads.answered(Answer(ask=first, error="LoadFailed", message="version 2: broken"))
    with pytest.raises(LoadFailed, match=r"^version 2: broken$"):
        await calls[0]
    loads.answered(Answer(ask=first))  # nobody waits any more
    assert running.server.repository.serves("last", 1), "the supervisor says when"


async def test_a_caller_that_leaves_is_not_waited_for(running: Running, line: Line) -> None:
    loads = loads_over(line, running.server.loader)
    call = asyncio.create_task(loads.load("demo"))
    await eventually(lambda: line.asked, "the ask")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    loads.answered(Answer(ask=line.asked[0].ask))


async def test_the_end(running: Running, line: Line) -> None:
    loads = loads_over(line, running.server.loader)
    call = asyncio.create_task(loads.load("demo"))
    await eventually(lambda: line.asked, "the ask")
    loads.end()
    with pytest.raises(Draining):
        await call
    with pytest.raises(Draining):
        await loads.unload("demo")
    assert len(line.asked) == 1


@pytest.mark.parametrize("name", ["", "../demo", "x" * 10_000_000])
async def test_what_is_no_name_goes_nowhere(models: Path, line: Line, name: str) -> None:
    """It may be longer than any line."""
    async with serving(models) as running:
        loads = loads_over(line, running.server.loader)
        with pytest.raises(ModelNotFound):
            await loads.load(name)
        with pytest.raises(ModelNotFound):
            await loads.unload(name)
    assert not line.asked


async def test_an_error_that_is_no_callers_fault_is_none_here_either(running: Running, line: Line) -> None:
    loads = loads_over(line, running.server.loader)
    call = asyncio.create_task(loads.load("demo"))
    await eventually(lambda: line.asked, "the ask")
    loads.answered(Answer(ask=line.asked[0].ask, error="ZeroDivisionError", message="division by zero"))
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"):
        await call


@pytest.mark.parametrize("error", [Draining("a"), LoadFailed("b"), ModelNotFound("c"), NotReady("d")])
def test_errors_travel_by_name(error: Exception) -> None:
    name, message = described(error)
    assert (ERRORS[name], message) == (type(error), str(error))


def test_a_long_message_is_cut() -> None:
    assert len(described(LoadFailed("x" * 10**6))[1]) == MAX_MESSAGE_CHARACTERS
