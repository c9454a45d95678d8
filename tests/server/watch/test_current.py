"""Whose step is being made."""

import asyncio

import pytest

from server.http2.direct import Direct
from server.watch.current import Current, within
from server.watch.record import Record


def record(name: str) -> Record:
    return Record(name, "", 0.0)


async def test_steps_of_many_calls_do_not_mix() -> None:
    """With tasks and without; in between nobody's step is made."""
    current = Current()
    wrong: list[str] = []
    done: list[int] = []

    async def work(mine: Record) -> str:
        for _ in range(5):
            if current.record is not mine:
                wrong.append(mine.rpc)
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, None)
            await future
        return mine.rpc

    async def call(number: int) -> None:
        mine = record(str(number))
        assert await within(current, mine, work(mine)) == str(number)
        done.append(number)

    tasks = [asyncio.create_task(call(number)) for number in range(10)]
    for number in range(10, 20):
        Direct(call(number))
        assert current.record is None
    await asyncio.gather(*tasks)
    assert sorted(done) == list(range(20))
    assert wrong == []


async def test_errors_and_cancellation_go_in_and_out() -> None:
    current = Current()
    seen: list[BaseException] = []

    async def work() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError as error:
            seen.append(error)
            assert current.record is not None
            raise
        return ""

    async def fail() -> None:
        raise ValueError("mine")

    async def call() -> None:
        await within(current, record("a"), work())

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(seen) == 1
    with pytest.raises(ValueError, match="mine"):
        await within(current, record("b"), fail())
    assert current.record is None


async def test_a_step_within_a_step() -> None:
    """A call that is cancelled by what another does: afterwards the other goes on as itself."""
    current = Current()
    outer, inner = record("outer"), record("inner")

    async def one() -> Record | None:
        return current.record

    async def other() -> tuple[Record | None, Record | None]:
        return await within(current, inner, one()), current.record

    assert await within(current, outer, other()) == (inner, outer)
