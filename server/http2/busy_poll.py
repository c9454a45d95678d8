"""Looking for the next call without sleeping, for a short while after each answer.

A core that sleeps takes tens of microseconds to wake, on a virtual machine a hundred. Callers that ask again at once
find it awake; the price is up to so much processor time after each burst of calls. While a call is being answered the
core has other things to do.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter


class BusyPoll:
    """Keeps a loop turning until `seconds` have passed since the last answer or a call comes; for 0 it does nothing."""

    def __init__(self, seconds: float, *, is_idle: Callable[[], bool]) -> None:
        """`is_idle`: whether no call is being answered."""
        self._seconds = seconds
        self._is_idle = is_idle
        self._until = 0.0
        self._is_turning = False

    @property
    def is_turning(self) -> bool:
        """Whether the loop is kept awake."""
        return self._is_turning

    def answered(self, loop: asyncio.AbstractEventLoop) -> None:
        """Something was sent."""
        if not self._seconds or not self._is_idle():
            return
        self._until = perf_counter() + self._seconds
        if not self._is_turning:
            self._is_turning = True
            loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._is_idle() and perf_counter() < self._until:
            # A loop with something to do next looks at its sockets and does not wait for them.
            loop.call_soon(self._turn, loop)
        else:
            self._is_turning = False
