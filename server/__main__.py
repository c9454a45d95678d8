"""python -m server: serve until SIGTERM or SIGINT."""

import asyncio
import os
import sys
from collections.abc import Sequence

from server.config import Config, parse
from server.errors import StartupError
from server.memory import share_arenas
from server.process import end_leftovers, keep_for_good, loop_factory, set_up_log, stop_on_signals
from server.turns import take_short_turns


async def serve(config: Config) -> None:
    """Start, wait for a signal, drain, stop."""
    share_arenas()
    from server.app import Server  # noqa: PLC0415 (a supervisor needs neither onnxruntime nor gRPC)

    stop = stop_on_signals()
    keep_for_good()
    take_short_turns()
    server = Server(config)
    await server.start()
    await stop.wait()
    await server.stop()
    await end_leftovers()


async def supervise(config: Config) -> None:
    """Start the workers, replace those that die, wait for a signal, let all drain."""
    from server.supervisor.supervisor import Supervisor  # noqa: PLC0415 (one process needs no supervisor)

    await Supervisor(config).run(stop_on_signals())


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status; a start that fails is one line on standard error."""
    try:
        config = parse(sys.argv[1:] if argv is None else argv, os.environ)
        set_up_log(config.log_level, log_format=config.log_format)
        with asyncio.Runner(loop_factory=loop_factory(config.transport)) as runner:
            runner.run(serve(config) if config.workers == 1 else supervise(config))
    except StartupError as error:
        sys.stderr.write(f"server: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
