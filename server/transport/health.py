"""grpc.health.v1, as the package has it, but for how a watch ends."""

import asyncio

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio

from server.transport.calls import Context


class Health(aio.HealthServicer):  # type: ignore[misc]  # ships no types
    """A watch has no end of its own; left to the server's stop, gRPC logs a traceback for each as if it had failed."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Task[None]] = set()
        self._ended = False

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """Every change of a service's status, until the caller leaves or the server goes."""
        watch = asyncio.create_task(super().Watch(request, context))
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

    def end_watches(self) -> None:
        """Tell every watcher that the server goes."""
        self._ended = True
        for watch in self._watches:
            watch.cancel()
