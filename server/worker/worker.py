"""Follows the supervisor: starts a server, shows it, changes it, drains it."""

import asyncio
import logging
import socket
from contextlib import suppress

from server.app import Server
from server.errors import ModelNotFound, StartupError
from server.process import end_leftovers, set_up_log, stop_on_signals
from server.status.describe import describe
from server.status.facts import Facts
from server.supervisor.line import Line
from server.supervisor.messages import (
    Announce,
    Answer,
    BadMessage,
    Change,
    Changed,
    Drain,
    Draining,
    Failed,
    Ready,
    Start,
    ToWorker,
    to_worker,
)
from server.worker.loads import GroupLoads, described

logger = logging.getLogger("nextvalue")

# How old the gauges on the page may be.
GAUGE_SECONDS = 0.25


class Worker:
    """One server between `start` and the end."""

    def __init__(self, start: Start, line: Line[ToWorker], stop: asyncio.Event) -> None:
        """Raises StartupError if the models or the provider are not there."""
        self._line = line
        self._stop = stop
        self._unloaded = start.unloaded
        self._server = Server(start.config, shared=True)
        self._loads = GroupLoads(self._server.loader, line.send)
        self._started = asyncio.Event()
        self._changing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until it is told to stop, or the supervisor is gone. Raises StartupError."""
        hearing = asyncio.create_task(self._hear())
        writing = asyncio.create_task(self._write_gauges())
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
        finally:
            self._line.send(Draining())
            self._loads.end()
            stopping.cancel()
            # What comes of a start under way matters no more.
            self._server.end_loading()
            await asyncio.gather(starting, return_exceptions=True)
            await self._server.stop()
            for task in (hearing, writing, *self._changing):
                task.cancel()

    async def _start(self) -> None:
        await self._server.start_as_worker(self._loads)
        for name in self._unloaded:
            # Its folder may be gone meanwhile.
            with suppress(ModelNotFound):
                await self._server.loader.unload(name)
        self._started.set()
        self._line.send(Ready(serving=self._serving(), facts=self._facts()))

    def _serving(self) -> dict[str, list[int]]:
        models = self._server.repository.models()
        return {model.name: [version.number for version in model.serving()] for model in models if model.serving()}

    def _facts(self) -> Facts:
        """For the status page, which the supervisor serves."""
        return describe(self._server.repository)

    async def _hear(self) -> None:
        """Do what the supervisor says. A worker that nobody looks after drains and ends."""
        try:
            async for message in self._line.messages():
                match message:
                    case Announce():
                        await self._server.announce()
                    case Answer():
                        self._loads.answered(message)
                    case Change():
                        # Takes long; what is said meanwhile is heard.
                        task = asyncio.create_task(self._change(message))
                        self._changing.add(task)
                        task.add_done_callback(self._changing.discard)
                    case Drain():
                        self._stop.set()
                    case Start():
                        raise BadMessage("a second start")
            if not self._stop.is_set():
                logger.warning("the supervisor is gone; this worker drains and ends")
        except BadMessage:
            logger.exception("This is a bug. The supervisor said what is no message; this worker drains and ends")
        finally:
            self._stop.set()

    async def _change(self, change: Change) -> None:
        await self._started.wait()
        loader = self._server.loader
        error, message = "", ""
        try:
            await (loader.load(change.model) if change.action == "load" else loader.unload(change.model))
        except Exception as raised:  # noqa: BLE001 (whoever asked, in whichever worker, is told)
            error, message = described(raised)
        self._line.send(
            Changed(number=change.number, serving=self._serving(), error=error, message=message, facts=self._facts())
        )

    async def _write_gauges(self) -> None:
        while True:
            self._server.metrics.write_queues()
            await asyncio.sleep(GAUGE_SECONDS)


async def work(end: socket.socket) -> int:
    """A whole worker's life at its end of the line. Returns the exit status."""
    stop = stop_on_signals()
    line = await Line.over(end, to_worker)
    first = await line.receive()
    if not isinstance(first, Start):
        return 1  # the supervisor was gone before it said anything
    set_up_log(first.config.log_level, log_format=first.config.log_format, worker=first.worker)
    status = 0
    try:
        await Worker(first, line, stop).run()
    except StartupError as error:
        line.send(Failed(message=str(error)))
        status = 1
    await line.close()
    await end_leftovers()
    return status
