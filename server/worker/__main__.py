"""python -m server.worker TRANSPORT: started by a supervisor alone; standard input is the line to it."""

import asyncio
import os
import socket
import sys

from server.memory import share_arenas
from server.process import keep_for_good, loop_factory
from server.turns import take_short_turns
from server.worker.cells import write_quickly
from server.worker.worker import work

STANDARD_INPUT = 0


def main() -> int:
    """Returns the exit status."""
    try:
        # A copy: closing the line must not free the number of standard input for another file.
        end = socket.socket(fileno=os.dup(STANDARD_INPUT))
    except OSError:
        sys.stderr.write("server.worker: standard input is no supervisor's; start python -m server --workers N\n")
        return 1
    share_arenas()
    keep_for_good()
    take_short_turns()
    write_quickly()
    # The options come over the line; which loop reads it must be known before.
    with asyncio.Runner(loop_factory=loop_factory("".join(sys.argv[1:]))) as runner:
        return runner.run(work(end))


if __name__ == "__main__":
    sys.exit(main())
