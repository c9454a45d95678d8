"""grpc.health.v1: statuses as the package keeps them, watched without a lock.

The package's own servicer writes to a watcher while it holds the lock that a change of status wants: one watcher that
does not read would keep a server from becoming ready, and from draining.
"""

import asyncio
from collections import defaultdict

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio

from server.transport.calls import Context

_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(aio.HealthServicer):  # type: ignore[misc]  # ships no types
    """A watch has no end of its own; left to the server's stop, gRPC logs a traceback for each as if it had failed."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Task[None]] = set()
        self._changes: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._ended = False

    async def set(self, service: str, status: int) -> None:
        """Whoever watches the service is told when he reads; nobody is waited for."""
        self._server_status[service] = status
        for change in self._changes.get(service, ()):
            change.set()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """Every change of a service's status, until the caller leaves or the server goes."""
        watch = asyncio.create_task(self._follow(request.service, context))
        self._watches.add(watch)
        try:
            await watch
        except asyncio.CancelledError:
            if not self._ended:
                watch.cancel()
                raise
        finally:
            self._watches.discard(watch)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")

    async def _follow(self, service: str, context: Context) -> None:
        """A slow reader misses what was true for a while only; what is true last he is told."""
        change, last = asyncio.Event(), None
        self._changes[service].add(change)
        try:
            while True:
                change.clear()
                status = self._server_status.get(service, _UNKNOWN)
                if status != last:
                    last = status
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                await change.wait()
        finally:
            self._changes[service].discard(change)
            if not self._changes[service]:
                # Callers choose the names: nothing is kept of those that nobody watches.
                del self._changes[service]

    def end_watches(self) -> None:
        """Tell every watcher that the server goes."""
        self._ended = True
        for watch in self._watches:
            watch.cancel()
