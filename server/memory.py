"""What glibc keeps of freed memory, and how it comes back to the operating system.

glibc holds what is freed for later, in as many arenas as threads have allocated from at the same time, up to eight for
each core, and of all but the first the end cannot be handed back when asked. Without this a server grows with its
reloads for a while, and what a burst of large calls took stays taken.
Another C library is left as it is.
"""

import asyncio
import ctypes
import gc
import os
from functools import cache
from typing import Any

# The loop and the engine allocate side by side, mostly under Python's lock as it is.
MAX_ARENAS = 1
_M_ARENA_MAX = -8  # glibc's malloc.h
# Between two looks: handing back pages that nobody freed takes about a millisecond, on a thread of its own.
RETURN_SECONDS = 10.0


@cache
def _libc() -> Any:
    """The C library of this process, if it is glibc."""
    try:
        libc = ctypes.CDLL(None)
        _ = libc.gnu_get_libc_version, libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return libc


def share_arenas() -> None:
    """Allocate from MAX_ARENAS alone, unless MALLOC_ARENA_MAX says how many; before the first thread starts."""
    libc = _libc()
    if libc is not None and "MALLOC_ARENA_MAX" not in os.environ:
        libc.mallopt(_M_ARENA_MAX, MAX_ARENAS)


async def give_back(*, collect: bool = True) -> None:
    """Hand freed pages back, on a thread and without Python's lock; `collect`: also what hangs together in circles."""
    if collect:
        gc.collect()
    libc = _libc()
    if libc is not None:
        await asyncio.get_running_loop().run_in_executor(None, libc.malloc_trim, 0)


async def keep_giving_back() -> None:
    """Hand freed pages back again and again, until it is cancelled."""
    while True:
        await asyncio.sleep(RETURN_SECONDS)
        await give_back(collect=False)
