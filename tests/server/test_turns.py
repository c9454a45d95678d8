"""The engine's thread lets the loop go first, and the loop is let in at once."""

import ctypes
import os
import platform
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from server import turns
from server.batcher import new_engine_thread
from tests.server.harness import LIMIT_SECONDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="turns and niceness are a thread's on Linux alone")

# The number of sched_getattr, by machine.
_GETATTR = {"x86_64": 315, "aarch64": 275}


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def turn_nanoseconds() -> int:
    """What this thread asks for."""
    found = turns._SchedAttr()
    size = ctypes.sizeof(found)
    assert ctypes.CDLL(None).syscall(_GETATTR[platform.machine()], 0, ctypes.byref(found), size, 0) == 0
    return int(found.sched_runtime)


def test_the_engines_thread_lets_the_loop_go_first() -> None:
    """It alone: the rest of the process stays as it is."""
    own = niceness()
    with new_engine_thread("a") as thread:
        found = thread.submit(niceness).result(LIMIT_SECONDS)
    assert found == min(own + turns.ENGINE_NICENESS, turns.LARGEST_NICENESS)
    assert niceness() == own


def test_short_turns_are_the_loops_alone() -> None:
    """Neither niceness nor the threads that it starts change with it."""
    if platform.machine() not in _GETATTR:
        pytest.skip(f"the system call's number on {platform.machine()} is not in the table")

    def loop() -> tuple[bool, int, int, int, int]:
        before = niceness()
        taken = turns.take_short_turns()
        with ThreadPoolExecutor(1) as started:
            others = started.submit(turn_nanoseconds).result(LIMIT_SECONDS)
        return taken, turn_nanoseconds(), others, before, niceness()

    with ThreadPoolExecutor(1) as thread:
        taken, own, others, before, after = thread.submit(loop).result(LIMIT_SECONDS)
    if not taken or not own:
        pytest.skip(f"Linux {platform.release()} knows no turns of a thread's own")
    assert own == turns.LOOP_TURN_NANOSECONDS
    assert others != own
    assert before == after


def test_where_the_number_is_not_known_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert not turns.take_short_turns()
