"""Who wants to know of calls: the log, traces, both, or nobody."""

import logging
import re
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Protocol

from server.transport.calls import Context
from server.watch.current import Current
from server.watch.record import Record

logger = logging.getLogger("nextvalue.watch")

# Metadata by which callers and proxies name a request.
REQUEST_ID = "x-request-id"
_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

Metadata = Iterable[tuple[str, str | bytes]]


def safe_id(text: object) -> str:
    """A caller's id for its request, if it is one that can stand in a log line as it is."""
    return text if isinstance(text, str) and _SAFE_ID.fullmatch(text) else ""


class Watcher(Protocol):
    """Somebody who wants to know."""

    def begin(self, record: Record, metadata: Metadata) -> bool:
        """A call begins; whether its end is wanted."""
        ...

    def end(self, record: Record) -> None:
        """A call whose end was wanted has ended."""
        ...

    def close(self) -> None:
        """No further calls. May take seconds."""
        ...


class Watch:
    """All watchers of a server. What one of them raises ends no call."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self.current = Current()
        self._watchers = watchers
        self._wanted: dict[Record, list[Watcher]] = {}

    def begin(self, rpc: str, context: Context) -> Record | None:
        """A call begins. None if nobody wants to know more."""
        metadata = context.invocation_metadata() or ()
        record = Record(rpc, context.peer(), perf_counter())
        try:
            wanted = [watcher for watcher in self._watchers if watcher.begin(record, metadata)]
        except Exception:
            logger.exception("This is a bug. A call is not watched")
            return None
        if not wanted:
            return None
        record.request_id = next((safe_id(value) for key, value in metadata if key == REQUEST_ID), "")
        self._wanted[record] = wanted
        return record

    def end(self, record: Record) -> None:
        """The call has ended."""
        for watcher in self._wanted.pop(record):
            try:
                watcher.end(record)
            except Exception:
                logger.exception("This is a bug. A call was not written down")

    def close(self) -> None:
        """Write down what is left. May take seconds: not on the loop."""
        for watcher in self._watchers:
            watcher.close()
