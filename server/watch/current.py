"""Whose step the loop is making: what is called within a call finds its record, and no argument carries it there."""

from collections.abc import Awaitable, Generator
from types import coroutine
from typing import Any, TypeVar

from server.watch.record import Record

T = TypeVar("T")


class Current:
    """The record of the call whose step is being made; None between steps. Belongs to the loop's thread."""

    def __init__(self) -> None:
        self.record: Record | None = None


@coroutine
def within(current: Current, record: Record, work: Awaitable[T]) -> Generator[Any, Any, T]:
    """Await `work`; at each of its steps, and at no other's, `current` has the record.

    A context variable would not do: steps of calls that have no task are made in whatever context the loop is in.
    """
    steps: Any = work.__await__()
    step, argument = steps.send, None
    while True:
        before, current.record = current.record, record
        try:
            awaited = step(argument)
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            current.record = before
        try:
            argument = yield awaited
            step = steps.send
        except BaseException as error:  # noqa: BLE001 (it belongs to the work)
            step, argument = steps.throw, error
