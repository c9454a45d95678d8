"""The loop keeps turning for a while after an answer, and then sleeps again."""

import asyncio
from time import perf_counter

from server.http2.busy_poll import BusyPoll


class CountingLoop:
    """Takes callbacks and runs them when told."""

    def __init__(self) -> None:
        self.waiting: list[tuple[object, tuple[object, ...]]] = []

    def call_soon(self, callback: object, *arguments: object) -> None:
        """Keep it."""
        self.waiting.append((callback, arguments))

    def turn(self) -> int:
        """Run what waits; how much it was."""
        ran, self.waiting = self.waiting, []
        for callback, arguments in ran:
            callback(*arguments)  # type: ignore[operator]
        return len(ran)


def test_the_loop_turns_until_the_time_is_over() -> None:
    """And no longer: then nothing keeps it awake."""
    loop, began = CountingLoop(), perf_counter()
    BusyPoll(0.02, is_idle=lambda: True).answered(loop)  # type: ignore[arg-type]
    turns = 0
    while loop.turn():
        turns += 1
    assert perf_counter() - began >= 0.02
    assert turns > 1


def test_an_answer_meanwhile_prolongs_it_and_adds_no_second_turn() -> None:
    """Each loop's turn has one callback of ours, however many answers there were."""
    loop, poll, began = CountingLoop(), BusyPoll(0.02, is_idle=lambda: True), perf_counter()
    poll.answered(loop)  # type: ignore[arg-type]
    while perf_counter() < began + 0.01:
        assert loop.turn() == 1
    poll.answered(loop)  # type: ignore[arg-type]
    while ran := loop.turn():
        assert ran == 1
    assert perf_counter() - began >= 0.03


def test_without_it_an_answer_leaves_nothing_behind() -> None:
    """The default."""
    loop = CountingLoop()
    BusyPoll(0, is_idle=lambda: True).answered(loop)  # type: ignore[arg-type]
    assert not loop.waiting


def test_while_a_call_is_answered_it_stands_back() -> None:
    """The run needs the core; the next answer starts it anew."""
    loop, idle = CountingLoop(), True
    poll = BusyPoll(10, is_idle=lambda: idle)
    poll.answered(loop)  # type: ignore[arg-type]
    assert loop.turn() == 1
    idle = False
    assert loop.turn() == 1
    assert loop.turn() == 0
    poll.answered(loop)  # type: ignore[arg-type]
    assert loop.turn() == 0
    idle = True
    poll.answered(loop)  # type: ignore[arg-type]
    assert loop.turn() == 1


async def test_other_callbacks_run_meanwhile() -> None:
    """It looks for calls, so calls must be seen."""
    loop = asyncio.get_running_loop()
    BusyPoll(0.2, is_idle=lambda: True).answered(loop)
    began = perf_counter()
    await asyncio.sleep(0.01)
    assert perf_counter() - began < 0.15
