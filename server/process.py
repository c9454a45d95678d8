"""What every serving process has around its server: the log, the signals that stop it, the loop's last turn."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable

from server.log_format import JsonFormat, TextFormat

LEFTOVER_SECONDS = 1.0
# New objects between two looks for cycles, and looks at the young before one at the older: calls make few cycles.
COLLECTOR_THRESHOLDS = (20_000, 20, 20)


def set_up_log(level: str, *, log_format: str = "text", worker: int | None = None) -> None:
    """Everything goes to standard error; of several workers each line says which wrote it."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormat(worker))
    else:
        handler.setFormatter(TextFormat("" if worker is None else f"worker {worker} "))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_cancellation)
    # At debug it writes every header of every call, and so whatever secret a caller sends in one.
    logging.getLogger("hpack").setLevel(logging.WARNING)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Grpc prints a traceback for a stream that was open when the server stopped: that is how it ends, not a fault."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def loop_factory(transport: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop for a transport, None for asyncio's: our own HTTP/2 is mostly in the loop, and C has one."""
    if transport != "http2":
        return None
    try:
        import uvloop  # noqa: PLC0415 (there is none on some platforms, and grpcio needs none)
    except ImportError:
        return None
    return uvloop.new_event_loop


def keep_for_good() -> None:
    """Take the libraries out of the collector's sight: it would look at all of it again and find no cycle.

    Before models are loaded: a version that is let go may hang together in a circle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def stop_on_signals() -> asyncio.Event:
    """Set by SIGTERM and SIGINT, which then do nothing else."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def end_leftovers() -> None:
    """Gives gRPC's own tasks, a turn of the loop behind, the time to end.

    The loop's end would cancel them, and each would print so.
    """
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=LEFTOVER_SECONDS)
