"""Keeps the workers: starts them, replaces those that die, carries what one asks for to all, lets them drain."""

import asyncio
import itertools
import logging
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace

from prometheus_client import CollectorRegistry

from server.config import Config, split_address
from server.errors import StartupError
from server.parity.link import SpawnedReference, torch_is_installed
from server.status.board import StatusBoard
from server.status.facts import WorkerFacts, merged
from server.status.port import MetricsPort
from server.supervisor.barrier import Barrier
from server.supervisor.changes import Changes, Outgoing, differing
from server.supervisor.messages import (
    Announce,
    Ask,
    BadMessage,
    Changed,
    Drain,
    Draining,
    Failed,
    FromWorker,
    Ready,
    Start,
)
from server.supervisor.page import VARIABLE, MetricsFolder
from server.supervisor.port import HeldPort
from server.supervisor.process import WorkerProcess, ending
from server.supervisor.reference import KeptReference
from server.supervisor.restarts import MAX_FAILED_STARTS, Restarts

logger = logging.getLogger("nextvalue")

# What a worker may take beyond drain_seconds to end.
GRACE_SECONDS = 5.0


class Supervisor:
    """Serves nothing itself but the metrics page. `run` once."""

    def __init__(self, config: Config) -> None:
        """Raises StartupError if there is no such folder of models."""
        if not config.models.is_dir():
            raise StartupError(f"models is {str(config.models)!r}; there is no such folder")
        self._config = config
        self._barrier = Barrier(config.workers)
        self._changes = Changes()
        self._processes: dict[int, WorkerProcess] = {}
        self._numbers = itertools.count(1)
        self._stopping = asyncio.Event()
        self._folder: MetricsFolder

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set and all workers have drained. Raises StartupError where workers cannot be had."""
        with ExitStack() as stack:
            self._open(stack)
            keeping = [asyncio.create_task(self._keep(worker)) for worker in range(1, self._config.workers + 1)]
            asked = asyncio.create_task(stop.wait())
            try:
                # A worker's task ends before that only where there is no hope for it.
                await asyncio.wait({asked, *keeping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                asked.cancel()
                await self._drain(keeping)
        for error in [task.exception() for task in keeping]:
            if error is not None:
                raise error
        logger.info("stopped")

    def _open(self, stack: ExitStack) -> None:
        """Everything the workers share. Raises StartupError if a port cannot be had."""
        config = self._config
        port = stack.enter_context(HeldPort(config.grpc))
        health = config.health_listen
        if health:
            health = stack.enter_context(HeldPort(health, option="health-listen")).address
        self._folder = MetricsFolder()
        stack.callback(self._folder.close)
        registry = CollectorRegistry()
        registry.register(self._folder)
        board = StatusBoard(
            registry.collect,
            facts=lambda: merged([each.facts for each in self._serving()]),
            is_ready=lambda: self._barrier.passed and bool(self._serving()) and not self._stopping.is_set(),
            workers=self._worker_facts,
        )
        page = MetricsPort(config.metrics, registry, board.render)
        stack.callback(page.close)
        hosts = [split_address(address)[0] for address in (config.grpc, config.metrics)]
        logger.info("listening grpc=%s:%d metrics=%s:%d", hosts[0], port.port, hosts[1], page.port)
        if health:
            logger.info("listening health=%s", health)
        self._config = replace(config, grpc=port.address, health_listen=health, reference=self._reference(stack))

    def _serving(self) -> list[WorkerProcess]:
        """Those that are ready; read on the page's thread, too."""
        return [each for each in list(self._processes.values()) if each.ready_at is not None]

    def _worker_facts(self) -> list[WorkerFacts]:
        """Every process in its place, for the page."""
        now = time.monotonic()
        facts = [
            WorkerFacts(
                worker=each.worker,
                pid=each.pid,
                uptime_seconds=None if each.ready_at is None else now - each.ready_at,
            )
            for each in list(self._processes.values())
        ]
        return sorted(facts, key=lambda each: (each.worker, each.pid))

    def _reference(self, stack: ExitStack) -> str:
        """What workers are told of the reference: with `auto` there is one for all."""
        config = self._config
        if config.reference != "auto":
            return config.reference
        if config.parity_share == 0:
            return "off"
        if not torch_is_installed():
            logger.info("torch is not installed: no live parity checks")
            return "off"
        spawned = SpawnedReference(config.models, timeout_seconds=config.reference_timeout_seconds)
        stack.callback(KeptReference(spawned).close)
        return f"unix:{spawned.path}"

    async def _keep(self, worker: int) -> None:
        """Let there be a process in the worker's place. Raises StartupError where that is hopeless."""
        restarts = Restarts()
        while not self._stopping.is_set():
            ready_seconds = None
            try:
                process = await self._spawn(worker)
            except OSError as error:
                how = f"cannot be started: {error.strerror}"
            else:
                how = await self._follow(process)
                if process.failed and not self._barrier.passed:
                    # The same would happen to the next.
                    raise StartupError(process.failed)
                if process.ready_at is not None:
                    ready_seconds = time.monotonic() - process.ready_at
            wait_seconds = restarts.died(ready_seconds)
            if self._stopping.is_set():
                return
            if restarts.hopeless and not (self._barrier.passed and self._barrier.num_ready):
                raise StartupError(f"worker {worker} has died {MAX_FAILED_STARTS} times before it was ready: {how}")
            logger.error("worker %d: %s; another starts in %g s", worker, how, wait_seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_seconds)

    async def _spawn(self, worker: int) -> WorkerProcess:
        process = await WorkerProcess.spawn(
            next(self._numbers), worker, self._config.transport, {VARIABLE: str(self._folder.path)}
        )
        self._processes[process.number] = process
        self._changes.joined(process.number)
        process.send(Start(worker=worker, config=self._config, unloaded=sorted(self._changes.unloaded)))
        logger.info("worker %d: process %d started", worker, process.pid)
        if self._stopping.is_set():
            process.send(Drain())
        return process

    async def _follow(self, process: WorkerProcess) -> str:
        """Do what it says until it has ended. Returns how it did, in words; nothing waits for it any more."""
        try:
            async for message in process.messages():
                self._hear(process, message)
        except BadMessage as error:
            logger.error("worker %d: said what is no message: %s", process.worker, error)  # noqa: TRY400 (it says all)
            process.kill()
        self._gone(process)
        # Without its line it is told nothing any more: it ends by itself, or is stuck.
        try:
            async with asyncio.timeout(self._config.drain_seconds + GRACE_SECONDS):
                status = await process.ended()
        except TimeoutError:
            process.kill()
            status = await process.ended()
        del self._processes[process.number]
        self._folder.gone(process.pid)
        return f"process {process.pid} {ending(status)}" + (f": {process.failed}" if process.failed else "")

    def _hear(self, process: WorkerProcess, message: FromWorker) -> None:
        match message:
            case Ready():
                process.ready_at = time.monotonic()
                process.serving, process.facts = message.serving, message.facts
                logger.info("worker %d: process %d serves", process.worker, process.pid)
                self._let_show(process)
            case Failed():
                process.failed = message.message
            case Draining():
                self._gone(process)
            case Ask():
                self._tell(self._changes.ask(process.number, message))
            case Changed():
                process.serving, process.facts = message.serving, message.facts
                self._tell(self._changes.changed(process.number, message))

    def _let_show(self, process: WorkerProcess) -> None:
        """Announce it, if need be with the others, and let all agree on what they serve."""
        passed = self._barrier.passed
        for number in self._barrier.ready(process.number):
            self._processes[number].send(Announce())
        if not self._barrier.passed:
            return
        if not passed:
            logger.info("ready")
        # The folder may have changed since the others read it: nobody's answer may depend on the worker.
        for model in differing(each.serving for each in self._processes.values() if each.ready_at is not None):
            if model not in self._changes.unloaded:
                logger.warning("model %s: workers found it in different states; all load it again", model)
                self._tell(self._changes.agree(model))

    def _gone(self, process: WorkerProcess) -> None:
        self._barrier.gone(process.number)
        self._tell(self._changes.left(process.number))

    def _tell(self, outgoing: Iterable[Outgoing]) -> None:
        for number, message in outgoing:
            self._processes[number].send(message)

    async def _drain(self, keeping: Iterable[asyncio.Task[None]]) -> None:
        """All at once; who is not done within drain_seconds is killed soon after."""
        self._stopping.set()
        for process in self._processes.values():
            process.send(Drain())
        _, late = await asyncio.wait(keeping, timeout=self._config.drain_seconds + GRACE_SECONDS)
        if late:
            for process in self._processes.values():
                logger.warning("worker %d: process %d has not drained; killed", process.worker, process.pid)
                process.kill()
            await asyncio.wait(late)
