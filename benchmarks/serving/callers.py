"""Concurrent callers that ask again as soon as they are answered; of any client, so nothing of ours is imported."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def rate(ask: Callable[[int], Awaitable[None]], num_callers: int, seconds: float) -> float:
    """Calls a second; `ask` makes a call of the k-th caller and raises on a wrong answer. First calls do not count."""
    count = 0
    await asyncio.gather(*(ask(k) for k in range(num_callers)))
    end = time.perf_counter() + seconds

    async def keep(k: int) -> None:
        nonlocal count
        while time.perf_counter() < end:
            await ask(k)
            count += 1

    await asyncio.gather(*(keep(k) for k in range(num_callers)))
    return count / seconds
