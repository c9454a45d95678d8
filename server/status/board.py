"""Makes the page when somebody reads it: facts and numbers as they are then."""

import time
from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import Metric

from server.status.facts import Facts, WorkerFacts
from server.status.history import History
from server.status.page import Status, document
from server.status.software import software


def _no_workers() -> Sequence[WorkerFacts]:
    return ()


class StatusBoard:
    """Of one server, from its start. `render` runs on the thread of whoever reads, and holds nothing of the loop's."""

    def __init__(
        self,
        collect: Callable[[], Iterable[Metric]],
        *,
        facts: Callable[[], Facts],
        is_ready: Callable[[], bool],
        workers: Callable[[], Sequence[WorkerFacts]] = _no_workers,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._facts = facts
        self._is_ready = is_ready
        self._workers = workers
        self._clock = clock
        self._history = History(collect, clock)

    def render(self, *, refresh: bool = True) -> str:
        """The page as HTML."""
        latest, periods = self._history.look()
        status = Status(
            is_ready=self._is_ready(),
            uptime_seconds=self._clock() - self._history.started,
            facts=self._facts(),
            latest=latest,
            periods=periods,
            software=software(),
            workers=self._workers(),
        )
        return document(status, refresh=refresh)
