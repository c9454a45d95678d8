"""One line in the log for each call, or for a share of them."""

import logging
import random

from server.watch.record import QUEUE, RUN, Record
from server.watch.watch import Metadata

logger = logging.getLogger("nextvalue.requests")


class RequestLines:
    """Writes what a record says. No metadata, no values, nothing that a caller may hold secret."""

    def __init__(self, share: float, *, seed: int | None = None) -> None:
        """`share` of the calls, from 0 to 1."""
        self._share = share
        self._random = random.Random(seed)  # noqa: S311 (sampling, not secrets)

    def begin(self, record: Record, metadata: Metadata) -> bool:  # noqa: ARG002 (the interface)
        """Whether it is one of them."""
        return self._share >= 1 or self._random.random() < self._share

    def end(self, record: Record) -> None:
        """Write the line."""
        logger.info("request", extra={"fields": fields_of(record)})

    def close(self) -> None:
        """Nothing is left."""


def fields_of(record: Record) -> dict[str, str | int | float]:
    """What the line has, in its order. Empty ones are left out."""
    fields: dict[str, str | int | float] = {
        "model": record.model,
        "version": record.version,
        "rpc": record.rpc,
        "code": record.code.name,
        "peer": record.peer,
        "request_id": record.request_id,
        "trace_id": record.trace_id,
        "windows": record.windows,
        "queue_ms": _milliseconds(record.seconds(QUEUE)),
        "run_ms": _milliseconds(record.seconds(RUN)),
        "total_ms": _milliseconds(record.ended - record.started),
        "batch_windows": record.batch_windows,
    }
    return {name: value for name, value in fields.items() if value != ""}


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
