"""Calls that are watched one by one."""

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import grpc

from server.metrics import Metrics
from server.transport.calls import Calls, Context, Failure, Labels, Response
from server.watch.current import within
from server.watch.record import Record
from server.watch.watch import Watch, safe_id


class WatchedCalls(Calls):
    """The same answers, and a record for each call that anybody wants one of."""

    def __init__(self, metrics: Metrics, known_model: Callable[[str], bool], watch: Watch) -> None:
        super().__init__(metrics, known_model)
        self._watch = watch
        # By the labels of the calls under way.
        self._open: dict[int, Record] = {}

    async def settle(self, rpc: str, context: Context, labels: Labels, work: Awaitable[Response]) -> Response | Failure:
        """As Calls'."""
        record = self._watch.begin(rpc, context)
        if record is None:
            return await super().settle(rpc, context, labels, work)
        self._open[id(labels)] = record
        try:
            settled: Any = await super().settle(rpc, context, labels, within(self._watch.current, record, work))
            # The Open Inference Protocol has one in the message.
            record.request_id = record.request_id or safe_id(getattr(settled, "id", ""))
            return settled  # type: ignore[no-any-return]
        finally:
            del self._open[id(labels)]
            self._watch.end(record)

    def _count(self, rpc: str, labels: Labels, code: grpc.StatusCode, seconds: float) -> None:
        super()._count(rpc, labels, code, seconds)
        record = self._open.get(id(labels))
        if record is not None:
            record.model, record.version = labels.model, labels.version
            record.close(code, perf_counter())
