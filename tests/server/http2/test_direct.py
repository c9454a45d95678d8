"""A coroutine stepped without a task: at once, then as its futures are done; cancelled where it waits."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from server.http2.direct import Direct


@pytest_asyncio.fixture(autouse=True)
async def _nothing_is_raised_into_the_loop() -> AsyncIterator[None]:
    """A callback that fails is only logged."""
    raised: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    yield
    assert not raised


class Steps:
    """What a coroutine came to, in order."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.futures = [asyncio.get_running_loop().create_future() for _ in range(3)]

    async def follow(self) -> None:
        self.seen.append("begun")
        try:
            for future in self.futures[:2]:
                try:
                    self.seen.append(await future)
                except ValueError as error:
                    self.seen.append(str(error))
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            self.seen.append(await self.futures[2])
        self.seen.append("ended")


async def test_it_begins_at_once_and_goes_on_as_its_futures_are_done() -> None:
    steps = Steps()
    Direct(steps.follow())
    assert steps.seen == ["begun"]
    steps.futures[0].set_result(1)
    await asyncio.sleep(0)
    assert steps.seen == ["begun", 1]
    steps.futures[1].set_exception(ValueError("wrong"))
    await asyncio.sleep(0)
    assert steps.seen == ["begun", 1, "wrong", "ended"]


async def test_what_need_not_wait_ends_at_once() -> None:
    steps = Steps()
    steps.futures[0].set_result(1)
    steps.futures[1].set_result(2)
    direct = Direct(steps.follow())
    assert steps.seen == ["begun", 1, 2, "ended"]
    direct.cancel()
    assert steps.seen[-1] == "ended"


async def test_cancelled_it_may_still_wait() -> None:
    steps = Steps()
    direct = Direct(steps.follow())
    direct.cancel()
    assert steps.seen == ["begun", "cancelled"]
    # What it waited for before has nothing more to tell it.
    steps.futures[0].set_result(1)
    steps.futures[2].set_result(3)
    await asyncio.sleep(0)
    assert steps.seen == ["begun", "cancelled", 3, "ended"]


async def test_cancelled_between_the_end_of_a_future_and_its_step() -> None:
    steps = Steps()
    direct = Direct(steps.follow())
    steps.futures[0].set_result(1)
    direct.cancel()
    await asyncio.sleep(0)
    assert steps.seen == ["begun", "cancelled"]
    steps.futures[2].set_result(3)
    await asyncio.sleep(0)
    assert steps.seen == ["begun", "cancelled", 3, "ended"]


async def test_what_lets_its_cancellation_through_has_ended() -> None:
    future = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await future

    direct = Direct(wait())
    direct.cancel()
    direct.cancel()
    assert not future.cancelled(), "it is somebody else's"


async def test_what_needs_a_task_is_a_mistake() -> None:
    async def pause() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="awaits futures alone"):
        Direct(pause())
