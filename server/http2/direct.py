"""Coroutines stepped without a task: a call's handler begins in the turn of the loop that its request came in."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Direct:
    """What a task is to a coroutine that awaits futures alone, without one.

    The first step is made at once, the others when the future awaited is done. Whatever the coroutine raises is raised
    where the step was made, so it should catch all. `asyncio.current_task` does not know of it: what asks for that
    (`asyncio.timeout`, for one) needs a task.
    """

    __slots__ = ("_awaited", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine
        self._awaited: asyncio.Future[Any] | None = None
        self._step()

    def _step(self, done: "asyncio.Future[Any] | None" = None) -> None:
        if done is not self._awaited:
            # Done, and its callback on the way, when the coroutine was cancelled.
            return
        self._awaited = None
        try:
            awaited = self._coroutine.send(None)
        except StopIteration:
            return
        self._await(awaited)

    def cancel(self) -> None:
        """Raise CancelledError in the coroutine, now; nothing if it has ended."""
        awaited, self._awaited = self._awaited, None
        if awaited is None:
            return
        awaited.remove_done_callback(self._step)
        try:
            further = self._coroutine.throw(asyncio.CancelledError())
        except (StopIteration, asyncio.CancelledError):
            return
        self._await(further)

    def _await(self, awaited: Any) -> None:
        # How a future tells that it was awaited, and not yielded by mistake.
        if not getattr(awaited, "_asyncio_future_blocking", False):
            raise RuntimeError(f"a handler that begins at once awaits futures alone; this one awaits {awaited!r}")
        awaited._asyncio_future_blocking = False  # noqa: SLF001 (as a task does)
        self._awaited = awaited
        awaited.add_done_callback(self._step)
