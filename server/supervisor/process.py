"""One worker as its supervisor sees it: a process, spawned and never forked, and the line to it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Self

from server.status.facts import Facts
from server.supervisor.line import Line
from server.supervisor.messages import FromWorker, ToWorker, from_worker


class WorkerProcess:
    """`python -m server.worker`. `number` is no other process's, ever; `worker` is whose place it has, from 1."""

    def __init__(self, number: int, worker: int, process: asyncio.subprocess.Process, line: Line[FromWorker]) -> None:
        self.number = number
        self.worker = worker
        self.pid = process.pid
        # On the monotonic clock, once it was.
        self.ready_at: float | None = None
        # The versions that answer there, by model, when it last said so.
        self.serving: dict[str, list[int]] = {}
        # What it then had of models and versions, for the status page.
        self.facts = Facts()
        # Why it could not start, if it said so.
        self.failed = ""
        self._process = process
        self._line = line

    @classmethod
    async def spawn(cls, number: int, worker: int, transport: str, environ: Mapping[str, str]) -> Self:
        """`environ` comes on top of our own. Raises OSError where no process can be had."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "server.worker",
                transport,
                stdin=theirs.fileno(),
                env={**os.environ, **environ},
                start_new_session=True,  # a Ctrl-C in the terminal reaches us alone, and we tell the workers
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(number, worker, process, await Line.over(ours, from_worker))

    def send(self, message: ToWorker) -> None:
        """Tell it, if it still lives."""
        self._line.send(message)

    def messages(self) -> AsyncIterator[FromWorker]:
        """What it says, until it has gone. Raises BadMessage."""
        return self._line.messages()

    async def ended(self) -> int:
        """The exit status, negative for a signal."""
        status = await self._process.wait()
        await self._line.close()
        return status

    def kill(self) -> None:
        """At once, whatever it is doing."""
        if self._process.returncode is None:
            self._process.kill()


def ending(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
