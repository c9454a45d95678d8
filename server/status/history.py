"""Looks at the counts, kept for a minute: rates need two. Nothing looks unless somebody reads the page."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client.core import Metric

from server.status.counts import Counts

# Several readers within so many seconds see the same.
SHORTEST_SECONDS = 1.0
# What "the last seconds" are at least, and the last minute at most.
FEW_SECONDS, MINUTE_SECONDS = 4.0, 65.0


class Period(NamedTuple):
    """What was counted within so many seconds, up to now."""

    name: str
    seconds: float
    counted: Counts


class History:
    """Of one server, from its start. Read on any thread."""

    def __init__(self, collect: Callable[[], Iterable[Metric]], clock: Callable[[], float]) -> None:
        """`clock` is monotonic, seconds."""
        self._collect = collect
        self._clock = clock
        self.started = clock()
        self._looks: deque[Counts] = deque()
        self._lock = threading.Lock()

    def look(self) -> tuple[Counts, list[Period]]:
        """Everything counted so far, and by period: the last seconds, the last minute, since the start.

        Of the first two those that earlier looks allow; the last is always there.
        """
        with self._lock:
            now = self._clock()
            if not self._looks or now - self._looks[-1].at >= SHORTEST_SECONDS:
                self._looks.append(Counts.of(self._collect(), now))
            latest = self._looks[-1]
            while latest.at - self._looks[0].at > MINUTE_SECONDS:
                self._looks.popleft()
            earlier = list(self._looks)[:-1]
        periods = []
        if earlier:
            few = next((one for one in reversed(earlier) if latest.at - one.at >= FEW_SECONDS), earlier[0])
            for one in [few] if few is earlier[0] else [few, earlier[0]]:
                seconds = latest.at - one.at
                periods.append(Period(f"last {seconds:.0f} s", seconds, latest.since(one)))
        since_start = max(latest.at - self.started, 1e-3)
        periods.append(Period("since the start", since_start, latest))
        return latest, periods
