"""python -m server.worker: started by a supervisor alone; standard input is the line to it."""

import asyncio
import os
import socket
import sys

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
    return asyncio.run(work(end))


if __name__ == "__main__":
    sys.exit(main())
