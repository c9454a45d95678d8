"""What one version has answered since it was loaded, as plain counts, for callers who ask for it by the protocol.

Fed where the metrics page is fed. Prometheus keeps rates over time; this is the running total that load generators
subtract before from after.
"""

from dataclasses import dataclass, field


@dataclass
class Duration:
    """How often, and how long in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Once more."""
        self.count += 1
        self.seconds += seconds


@dataclass
class Statistics:
    """Of calls, of the windows in them, and of the runs that answered them.

    `success` and `fail` have a call's whole time; `queue` and `run` that of the calls answered, where a call that took
    several runs has the time of all of them. `runs` is by windows per run: at most as many sizes as a run may have
    windows. `last_answer` is in seconds since 1970, 0 before the first.
    """

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    run: Duration = field(default_factory=Duration)
    runs: dict[int, Duration] = field(default_factory=dict)
    num_windows: int = 0
    last_answer: float = 0.0

    def ended(self, seconds: float, *, ok: bool, now: float) -> None:
        """A call has its status; `now` is in seconds since 1970."""
        if ok:
            self.success.add(seconds)
            self.last_answer = now
        else:
            self.fail.add(seconds)

    def answered(self, num_windows: int, *, queue_seconds: float, run_seconds: float) -> None:
        """A call has its predictions."""
        self.num_windows += num_windows
        self.queue.add(queue_seconds)
        self.run.add(run_seconds)

    def ran(self, num_windows: int, seconds: float) -> None:
        """The engine ran once."""
        self.runs.setdefault(num_windows, Duration()).add(seconds)

    @property
    def num_runs(self) -> int:
        """How often the engine ran."""
        return sum(each.count for each in self.runs.values())
