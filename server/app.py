"""Puts the parts together: start, serve, drain, stop."""

import asyncio
import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from prometheus_client import CollectorRegistry

from nextvalue.v1 import nextvalue_pb2, nextvalue_pb2_grpc
from server import memory, page
from server.batcher import Batcher
from server.config import Config, split_address
from server.doors.locks import Locks
from server.errors import StartupError
from server.gate import LoadOptions
from server.http2.listener import Http2Server
from server.loader import Loader
from server.metrics import Metrics
from server.parity.link import JoinedReference, Link, SpawnedReference, torch_is_installed
from server.parity.monitor import ParityMonitor
from server.pb import open_inference_pb2, open_inference_pb2_grpc
from server.predictor import Predictor
from server.provider import choose_provider
from server.repository import Repository
from server.scheduler import Scheduler
from server.status.board import StatusBoard
from server.status.describe import describe
from server.status.port import MetricsPort
from server.tensors import WINDOW, Tensors
from server.transport.calls import Calls
from server.transport.health import Health
from server.transport.model_repository import Loads, ModelRepository
from server.transport.nextvalue import NextValue
from server.transport.open_inference import OpenInference
from server.transport.ports import guarded_by, open_port, probe_transport, renew, transport_of
from server.transport.status import REJECTED
from server.transport.streams import Streams
from server.transport.unreadable import ReadableOnly
from server.versions import State, Version
from server.watch.batcher import WatchedBatcher
from server.watch.calls import WatchedCalls
from server.watch.choose import chosen_watch
from server.watcher import Watcher

logger = logging.getLogger("nextvalue")

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# What load balancers and probes ask for; liveness is another question.
READINESS = ("", "readiness")
LIVENESS = "liveness"
# Of a reply, beside its predictions: names and numbers.
REPLY_OVERHEAD_BYTES = 4096
# Health watches have no end of their own; so long after the last change they get one.
_WATCH_GRACE_SECONDS = 0.1


class Server:
    """One serving process. `start`, then `stop`; ports are known after `start`.

    As one of several workers: `start_as_worker`, `announce`, then `stop`.
    """

    def __init__(self, config: Config, *, shared: bool = False) -> None:
        """`shared`: one of several workers. Raises StartupError if the models or the provider are not there."""
        self.config = config
        self._shared = shared
        self.locks = Locks(config)
        self.metrics = Metrics(CollectorRegistry(), shared=shared)
        self.repository = Repository(
            config.models,
            choose_provider(config.provider),
            LoadOptions(
                largest_batch=config.max_batch_windows,
                tune=config.tune == "load",
                batch_invariant=config.batch_invariant == "on",
                cuda_graphs=config.cuda_graphs == "on",
            ),
        )
        self.predictor = Predictor(
            self.repository,
            self.metrics.unknown_series,
            max_horizon=config.max_horizon,
            max_reply_bytes=(config.max_message_mib << 20) - REPLY_OVERHEAD_BYTES,
        )
        self._watch = chosen_watch(config)
        self.loader = Loader(
            self.repository,
            activate=self._activate_from_thread,
            retire=self._retire,
            changed=self._show_changes,
            tidy=self._tidy,
            give_back=memory.give_back,
        )
        self._watcher = Watcher(self.repository, self.loader, poll_seconds=config.poll_seconds)
        # Whom the operator's calls go to.
        self._loads: Loads = self.loader
        self.parity = self._parity_monitor()
        self.grpc_port = 0
        self.metrics_port = 0
        self.health_port = 0
        self._health = Health()
        self._grpc: grpc.aio.Server | Http2Server | None = None
        self._probed: Http2Server | None = None
        self._calls: Calls | None = None
        self._streams: Streams | None = None
        self._page: MetricsPort | None = None
        self._loading: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._giving_back: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._stopping = False

    def _parity_monitor(self) -> ParityMonitor | None:
        config = self.config
        if config.reference == "off" or config.parity_share == 0:
            return None
        link: Link
        if config.reference == "auto":
            if not torch_is_installed():
                logger.info("torch is not installed: no live parity checks")
                return None
            link = SpawnedReference(config.models, timeout_seconds=config.reference_timeout_seconds)
        else:
            path = Path(config.reference.removeprefix("unix:"))
            link = JoinedReference(path, timeout_seconds=config.reference_timeout_seconds)
        return ParityMonitor(link, self.metrics, share=config.parity_share)

    async def start(self) -> None:
        """Open both ports, then load models beside them. Raises StartupError if a port cannot be had."""
        self._open_metrics()
        try:
            await self._open_grpc()
        except StartupError:
            self._close_metrics()
            raise
        hosts = [split_address(address)[0] for address in (self.config.grpc, self.config.metrics)]
        logger.info("listening grpc=%s:%d metrics=%s:%d", hosts[0], self.grpc_port, hosts[1], self.metrics_port)
        if self._probed is not None:
            logger.info("listening health=%s:%d", split_address(self.config.health_listen)[0], self.health_port)
        if self.parity is not None:
            self.parity.start()
        self._loading = asyncio.create_task(self._load())

    async def start_as_worker(self, loads: Loads) -> None:
        """Load models, then open the port that workers share; the page is another's. Operators' calls go to `loads`.

        Raises StartupError where no model can be served, or the port cannot be had.
        """
        self._loads = loads
        self.predictor.unannounced = True
        self._loading = asyncio.create_task(self._load())
        await self._loading
        if not self.repository.ready:
            raise StartupError(f"no model in {self.config.models} can be served")
        await self._open_grpc()

    async def announce(self) -> None:
        """All workers are ready: show it."""
        self.predictor.unannounced = False
        if self.parity is not None:
            # Not sooner: the reference starts beside the workers, and may take as long.
            self.parity.start()
        await self._show_changes()

    def _open_metrics(self) -> None:
        registry = self.metrics.registry
        board = StatusBoard(
            registry.collect, facts=partial(describe, self.repository), is_ready=lambda: self.predictor.ready
        )
        self._page = MetricsPort(self.config.metrics, registry, board.render)
        self.metrics_port = self._page.port

    def _close_metrics(self) -> None:
        if self._page is not None:
            self._page.close()
            self._page = None

    async def _open_grpc(self) -> None:
        server = transport_of(self.config, shared=self._shared)
        watch, knows = self._watch, self.repository.knows
        calls = Calls(self.metrics, knows) if watch is None else WatchedCalls(self.metrics, knows, watch)
        self._calls = calls
        guarded = guarded_by(server, self.locks.access, calls)
        checked: Any = ReadableOnly(guarded, calls)
        inference = OpenInference(
            self.predictor,
            calls,
            ModelRepository(self.repository, self._loads, admin=self.config.admin == "on"),
            max_batch_windows=self.config.max_batch_windows,
        )
        self._streams = inference.streams
        nextvalue_pb2_grpc.add_NextValueServicer_to_server(NextValue(self.predictor, calls), checked)
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, checked)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, guarded)
        names = (
            nextvalue_pb2.DESCRIPTOR.services_by_name["NextValue"].full_name,
            open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            reflection.SERVICE_NAME,
        )
        # By hand: enable_server_reflection knows grpcio's servers alone.
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(names), guarded)
        probed = self._probe_server()
        try:
            self.grpc_port = open_port(server, self.config.grpc, self.locks.tls)
        except RuntimeError:
            if probed is not None:
                await probed.stop(None)
            raise StartupError(f"grpc is {self.config.grpc!r}; cannot listen there (is the port taken?)") from None
        self._giving_back = asyncio.create_task(memory.keep_giving_back())
        await self._set_health(READINESS, _NOT_SERVING)
        await self._set_health((LIVENESS,), _SERVING)
        if probed is not None:
            await probed.start()
            self._probed = probed
        await server.start()
        self._grpc = server
        if self.config.reload_seconds:
            keep = self.locks.keep(partial(renew, server), seconds=self.config.reload_seconds)
            self._keeping = asyncio.create_task(keep)

    def _probe_server(self) -> Http2Server | None:
        """Health alone, for whoever probes: it speaks no TLS and has no token. None without `--health-listen`.

        Raises StartupError if the port cannot be had.
        """
        address = self.config.health_listen
        if not address:
            return None
        probed = probe_transport(shared=self._shared)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, probed)
        try:
            self.health_port = probed.add_insecure_port(address)
        except RuntimeError:
            raise StartupError(f"health-listen is {address!r}; cannot listen there (is the port taken?)") from None
        return probed

    async def _set_health(self, services: tuple[str, ...], status: int) -> None:
        for service in services:
            await self._health.set(service, status)

    async def _load(self) -> None:
        """Load off the loop; each version begins to answer as soon as its own gate has passed."""
        loop = asyncio.get_running_loop()
        try:
            async with self.loader.turn:
                self.repository.scan()
                page.show_versions(self.metrics, self.repository)
                await loop.run_in_executor(None, self.repository.load, partial(self._activate_from_thread, loop))
        except Exception:
            logger.exception("%s: could not be read", self.config.models)
        if self._stopping:
            return
        await self._show_changes()
        if self.repository.ready:
            logger.info("loaded" if self._shared else "ready")
        else:
            logger.error("not ready: no model in %s can be served", self.config.models)
        # Of several workers each would switch when it looked; there the operator's calls switch all.
        if self.config.poll_seconds and not self._shared:
            self._watching = asyncio.create_task(self._watcher.run())

    def _activate_from_thread(self, loop: asyncio.AbstractEventLoop, version: Version) -> None:
        asyncio.run_coroutine_threadsafe(self._activate(version), loop).result()

    async def _activate(self, version: Version) -> None:
        """Give a loaded version its batcher and its place on the metrics page."""
        engine, manifest = version.engine, version.manifest
        assert engine is not None
        assert manifest is not None
        parity = self.parity

        def observe(graph: str, inputs: Tensors, outputs: Tensors) -> None:
            if parity is not None:
                # Each lowering of the window has its own row of the tolerances.
                graph = engine.graph_for(len(inputs[WINDOW])) if graph == WINDOW else graph
                parity.offer(manifest, inputs, outputs, graph=graph)

        metrics = self.metrics.for_model(version.model, version.number)
        version.statistics = metrics.statistics
        batcher = Batcher if self._watch is None else partial(WatchedBatcher, current=self._watch.current)
        version.batcher = batcher(
            engine.run,
            scheduler=Scheduler(
                max_batch_windows=self.config.max_batch_windows, max_queue_windows=self.config.max_queue_windows
            ),
            metrics=metrics,
            observe=observe,
            name=version.model,
            direct_horizon=manifest.direct_horizon,
            num_levels=len(manifest.intervals.levels) if manifest.intervals else 0,
            roll=engine.roll,
            rollouts=engine.rollouts_for(self.config.max_batch_windows),
            is_short=engine.is_short,
            max_queue_seconds=self.config.max_queue_ms / 1000 if self.config.max_queue_ms else math.inf,
            engine_thread=version.thread,
        )
        number = str(version.number)
        self.metrics.model_info.labels(version.model, number, manifest.cell, engine.provider.name).set(1)
        for provider, count in engine.nodes_by_provider().items():
            self.metrics.graph_nodes.labels(version.model, number, provider).set(count)
        num_elsewhere = engine.nodes_elsewhere().total()
        self.metrics.graph_nodes_elsewhere.labels(version.model, number, engine.provider.name).set(num_elsewhere)
        # Born at 0, or the first of each would be no increase to Prometheus.
        if parity is not None:
            for result in ("match", "mismatch", "dropped"):
                self.metrics.parity_checks.labels(version.model, number, result)
        if len(version.series):
            self.metrics.unknown_series.labels(version.model, number)
        for reason in REJECTED.values():
            self.metrics.rejected.labels(version.model, reason)
        version.state = State.SERVING
        page.show_versions(self.metrics, self.repository)

    async def _retire(self, version: Version) -> None:
        """Answer what a version has accepted, within drain_seconds, and free it. Nobody can ask for it any more."""
        engine, batcher, manifest = version.engine, version.batcher, version.manifest
        assert engine is not None
        assert batcher is not None
        assert manifest is not None
        try:
            async with asyncio.timeout(self.config.drain_seconds):
                await batcher.drain()
        except TimeoutError:
            logger.warning("%s/%d: not drained in time; what is left is failed", version.model, version.number)
        batcher.close()
        # Another of the same number may have taken its place on the page.
        if not self.repository.serves(version.model, version.number):
            number = str(version.number)
            drop = self.metrics.drop
            drop(self.metrics.model_info, version.model, number, manifest.cell, engine.provider.name)
            for provider in engine.nodes_by_provider():
                drop(self.metrics.graph_nodes, version.model, number, provider)
            drop(self.metrics.graph_nodes_elsewhere, version.model, number, engine.provider.name)
            self.metrics.forget_queue(version.model, version.number)
        version.engine = version.batcher = version.thread = None

    def _tidy(self) -> None:
        if self._shared:  # what several processes wrote cannot be taken back
            return
        page.tidy(self.metrics, self.repository)
        if self._calls is not None:
            self._calls.tidy(partial(page.has_left, self.repository))

    async def _show_changes(self) -> None:
        page.show_versions(self.metrics, self.repository)
        if not self._stopping:
            await self._set_health(READINESS, _SERVING if self.predictor.ready else _NOT_SERVING)

    async def loaded(self) -> None:
        """Wait until the first scan is done."""
        assert self._loading is not None
        await self._loading

    def end_loading(self) -> None:
        """The first half of stop: a load under way ends after the version it is at, and no other begins."""
        self._stopping = True
        self.loader.end()

    async def stop(self) -> None:
        """NOT_SERVING, refuse new work, finish what was admitted (within drain_seconds), end."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self.config.drain_seconds
        self.end_loading()
        if self._keeping is not None:
            self._keeping.cancel()
        await self._set_health(READINESS, _NOT_SERVING)
        try:
            async with asyncio.timeout_at(give_up):
                await self.predictor.drain()
        except TimeoutError:
            logger.warning("not drained within %g s; what is left is failed", self.config.drain_seconds)
        for model in self.repository.models():
            for version in model.versions:
                if version.batcher is not None:
                    version.batcher.close()
        if self._streams is not None:
            self._streams.end()
        if self._grpc is not None:
            # By then the watchers have been told of the last change.
            loop.call_later(_WATCH_GRACE_SECONDS, self._health.end_watches)
            # Answers that are made still have to reach their callers; it returns as soon as all have.
            await self._grpc.stop(max(give_up - loop.time(), 2 * _WATCH_GRACE_SECONDS))
        if self._probed is not None:
            # Last: a probe during the drain is told that the server lives, and is not ready.
            await self._probed.stop(_WATCH_GRACE_SECONDS)
        if self._loading is not None:
            await self._loading
        for task in filter(None, (self._watching, self._keeping, self._giving_back)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self.loader.ended()
        if self.parity is not None:
            await loop.run_in_executor(None, self.parity.close)
        if self._watch is not None:
            await loop.run_in_executor(None, self._watch.close)
        self._close_metrics()
        logger.info("stopped")
