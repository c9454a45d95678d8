"""What is freed comes back to the operating system; a version's circles are collected."""

import asyncio
import gc
import platform
import subprocess
import sys
import weakref

import pytest

from server import memory
from tests.server.harness import eventually

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc is left as it is")

# 200 MB in blocks too small to be mapped one by one, all freed but the last, which keeps the heap from shrinking.
FREED = """
import asyncio, ctypes, psutil
from server import memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
resident = lambda: psutil.Process().memory_info().rss / 1e6
before = resident()
blocks = [libc.malloc(20_000) for _ in range(10_000)]
for block in blocks:
    ctypes.memset(block, 1, 20_000)
full = resident()
for block in blocks[:-1]:
    libc.free(block)
asyncio.run(memory.give_back(collect=False))
print(full - before, resident() - before)
"""

THREADS = """
import ctypes, re, threading
from server import memory
memory.share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
together = threading.Barrier(8)
def allocate():
    block = libc.malloc(1000)
    together.wait()
    libc.free(block)
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_stats()
"""


def run(code: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)


@glibc
def test_freed_pages_go_back() -> None:
    full, left = map(float, run(FREED).stdout.split())
    assert full > 190
    assert left < 20


@glibc
@pytest.mark.parametrize(("environ", "arenas"), [({}, memory.MAX_ARENAS), ({"MALLOC_ARENA_MAX": "5"}, 5)])
def test_threads_share_arenas(environ: dict[str, str], arenas: int) -> None:
    """As many as we say, or as many as whoever starts the server says."""
    assert run(THREADS, **environ).stderr.count("Arena ") == arenas


class Node:
    """May point to itself."""


def in_a_circle() -> "weakref.ref[Node]":
    node = Node()
    node.itself = node  # type: ignore[attr-defined]  # a circle is all it is for
    return weakref.ref(node)


async def test_circles_are_collected() -> None:
    gc.disable()
    try:
        circle = in_a_circle()
        assert circle() is not None
        await memory.give_back()
        assert circle() is None
    finally:
        gc.enable()


async def test_it_gives_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "RETURN_SECONDS", 0.0)
    trimmed: list[int] = []

    class Libc:
        """Counts."""

        malloc_trim = staticmethod(trimmed.append)

    monkeypatch.setattr(memory, "_libc", Libc)
    task = asyncio.create_task(memory.keep_giving_back())
    await eventually(lambda: len(trimmed) >= 3, "three times")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(trimmed) == {0}


async def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_libc", lambda: None)
    memory.share_arenas()
    await memory.give_back()
