"""Who goes first where the loop and the engine's thread want the same core.

Calls in, answers and refusals out take microseconds and somebody waits for each; a run takes milliseconds. So the
engine's thread is a little nicer, and the loop asks for short turns: since Linux 6.12 a thread that wakes and wants
less than the one that runs is let in at once, where it would have waited for the end of that one's turn.
"""

import ctypes
import os
import platform
import sys
import threading

# Above the process's own niceness.
ENGINE_NICENESS = 5
LARGEST_NICENESS = 19
# The smallest that the kernel grants. It is no limit: a thread that goes on working gets the next turn in its order.
LOOP_TURN_NANOSECONDS = 100_000
# Threads that this one starts take turns as usual.
_RESET_ON_FORK = 1
# sched_setattr(2): the C library has no name for it before glibc 2.41.
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}


class _SchedAttr(ctypes.Structure):
    """`struct sched_attr`, its first version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("sched_policy", ctypes.c_uint32),
        ("sched_flags", ctypes.c_uint64),
        ("sched_nice", ctypes.c_int32),
        ("sched_priority", ctypes.c_uint32),
        ("sched_runtime", ctypes.c_uint64),
        ("sched_deadline", ctypes.c_uint64),
        ("sched_period", ctypes.c_uint64),
    )


def stand_back() -> None:
    """Let others go first: for the engine's thread."""
    if sys.platform == "linux":
        # There the number may be that of a thread.
        thread = threading.get_native_id()
        own = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(own + ENGINE_NICENESS, LARGEST_NICENESS))


def take_short_turns() -> bool:
    """Be let in as soon as there is something to do: for the loop's thread. Whether the kernel takes it."""
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return False
    thread = threading.get_native_id()
    attributes = _SchedAttr(
        size=ctypes.sizeof(_SchedAttr),
        sched_flags=_RESET_ON_FORK,
        sched_nice=os.getpriority(os.PRIO_PROCESS, thread),
        sched_runtime=LOOP_TURN_NANOSECONDS,
    )
    # Zero is this thread, and SCHED_OTHER.
    return bool(ctypes.CDLL(None).syscall(number, 0, ctypes.byref(attributes), 0) == 0)
