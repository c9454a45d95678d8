"""What is known of one call: who asked for what, and where the time went."""

from dataclasses import dataclass, field
from typing import NamedTuple

import grpc

CHECK, QUEUE, RUN, ANSWER = "check", "queue", "run", "answer"
# The caller was gone, or its time was over, before there was an answer.
_LEFT = (grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)


class Phase(NamedTuple):
    """A part of a call, on time.perf_counter's clock, seconds. A run has `batch_windows` windows, of all its calls."""

    name: str
    start: float
    end: float
    batch_windows: int = 0


@dataclass(slots=True, eq=False)
class Record:
    """One call, from `started` on; all clocks are time.perf_counter's. `windows` are those asked about."""

    rpc: str
    peer: str
    started: float
    request_id: str = ""
    trace_id: str = ""
    model: str = ""
    version: str = ""
    code: grpc.StatusCode = grpc.StatusCode.OK
    ended: float = 0.0
    windows: int = 0
    phases: list[Phase] = field(default_factory=list)
    # Since when it waits for the engine, or for its next run; None if it never did.
    waits_since: float | None = None

    def queued(self, now: float) -> None:
        """It is in the queue."""
        self.phases.append(Phase(CHECK, self.started, now))
        self.waits_since = now

    def ran(self, start: float, end: float, batch_windows: int) -> None:
        """A run with windows of this call has been made. It may need another."""
        if self.waits_since is not None:
            self.phases.append(Phase(QUEUE, min(self.waits_since, start), start))
            self.phases.append(Phase(RUN, start, end, batch_windows))
            self.waits_since = end

    def close(self, code: grpc.StatusCode, now: float) -> None:
        """It has its status."""
        self.code, self.ended = code, now
        if self.waits_since is not None:
            self.phases.append(Phase(QUEUE if code in _LEFT else ANSWER, self.waits_since, now))

    def seconds(self, phase: str) -> float:
        """How long it was in that phase."""
        return sum(each.end - each.start for each in self.phases if each.name == phase)

    @property
    def batch_windows(self) -> int:
        """Of the largest run that it was in; 0 if it was in none."""
        return max((each.batch_windows for each in self.phases), default=0)
