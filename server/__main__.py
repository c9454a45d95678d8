"""python -m server: serve until SIGTERM or SIGINT."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from server.app import Server
from server.config import Config, parse
from server.errors import StartupError

LEFTOVER_SECONDS = 1.0


async def serve(config: Config) -> None:
    """Start, wait for a signal, drain, stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(config)
    await server.start()
    await stop.wait()
    await server.stop()
    # gRPC's own tasks may be a turn of the loop behind; the loop's end would cancel them, and each would print so.
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=LEFTOVER_SECONDS)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Grpc prints a traceback for a stream that was open when the server stopped: that is how it ends, not a fault."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def _loop_factory(config: Config) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Our own HTTP/2 spends much of its time in the loop, for which there is one in C."""
    if config.transport != "http2":
        return None
    try:
        import uvloop  # noqa: PLC0415 (there is none on some platforms, and grpcio needs none)
    except ImportError:
        return None
    return uvloop.new_event_loop


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status; a start that fails is one line on standard error."""
    try:
        config = parse(sys.argv[1:] if argv is None else argv, os.environ)
        logging.basicConfig(
            level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
        )
        logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_cancellation)
        with asyncio.Runner(loop_factory=_loop_factory(config)) as runner:
            runner.run(serve(config))
    except StartupError as error:
        sys.stderr.write(f"server: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
