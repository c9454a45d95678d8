"""When a worker is replaced, and when that makes no sense any more."""

INITIAL_SECONDS = 0.1
MAX_SECONDS = 10.0
# Ready for so long, what a worker died of is no longer how it started.
HEALTHY_SECONDS = 10.0
MAX_FAILED_STARTS = 5


class Restarts:
    """The deaths of one worker, in a row. No clock: how long each lived comes in."""

    def __init__(self) -> None:
        self._deaths = 0
        self._failed_starts = 0

    @property
    def hopeless(self) -> bool:
        """So many processes in a row died before they were ready."""
        return self._failed_starts >= MAX_FAILED_STARTS

    def died(self, ready_seconds: float | None) -> float:
        """The process died after having been ready for so long, None: it never was.

        Returns the seconds to wait before the next: twice as long after each death, from the beginning after a process
        that was healthy.
        """
        self._failed_starts = self._failed_starts + 1 if ready_seconds is None else 0
        if ready_seconds is not None and ready_seconds >= HEALTHY_SECONDS:
            self._deaths = 0
        # The exponent is bounded, too: a worker may die for weeks.
        seconds: float = min(INITIAL_SECONDS * 2.0 ** min(self._deaths, 30), MAX_SECONDS)
        self._deaths += 1
        return seconds
