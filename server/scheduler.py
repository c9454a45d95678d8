"""Which windows run next: first come first served, packed up to the largest batch.

Plain policy: no thread, socket, clock or onnxruntime. Time comes in as an argument.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


class Entry:
    """One call's windows on their way through the engine.

    The series buffer [N, T + horizon - 1, F] starts with the windows; every prediction is written behind
    them, so the window of step k is the slice [:, k : k + T]. Covariates to come are in the buffer already.
    """

    def __init__(
        self,
        windows_NTF: NDArray[np.float32],
        *,
        horizon: int,
        future_NHF: NDArray[np.float32] | None,
        deadline: float,
        enqueued: float,
    ) -> None:
        """`future_NHF` [N, horizon - 1, F - 1]; `deadline` and `enqueued` on the caller's monotonic clock, seconds."""
        self.num_windows, self.window, num_features = windows_NTF.shape
        self.horizon = horizon
        self.deadline = deadline
        self.enqueued = enqueued
        self.closed = False
        # How many of its windows are in the queue; kept by the scheduler.
        self.queued_windows = 0
        self.step = 0
        self.predictions_NH = np.empty((self.num_windows, horizon), np.float32)
        # First window not yet taken in this step, and how many of this step came back.
        self.cursor = 0
        self.answered = 0
        if horizon == 1:
            self._series = windows_NTF
        else:
            self._series = np.empty((self.num_windows, self.window + horizon - 1, num_features), np.float32)
            self._series[:, : self.window] = windows_NTF
            if future_NHF is not None:
                self._series[:, self.window :, 1:] = future_NHF

    def windows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Windows [stop - start, T, F] of the current step."""
        return self._series[start:stop, self.step : self.step + self.window]

    def accept(self, start: int, stop: int, next_B1: NDArray[np.float32]) -> None:
        """Take in the predictions of windows `start` to `stop` for the current step."""
        self.predictions_NH[start:stop, self.step] = next_B1[:, 0]
        if self.step + 1 < self.horizon:
            self._series[start:stop, self.window + self.step, 0] = next_B1[:, 0]
        self.answered += stop - start
        if self.answered == self.num_windows:
            self.step += 1
            self.answered = self.cursor = 0

    @property
    def finished(self) -> bool:
        """Whether every prediction has been made."""
        return self.step == self.horizon


@dataclass(frozen=True)
class Slice:
    """Windows `start` to `stop` of one entry."""

    entry: Entry
    start: int
    stop: int

    @property
    def num_windows(self) -> int:
        """How many."""
        return self.stop - self.start

    def windows(self) -> NDArray[np.float32]:
        """The windows themselves, [num_windows, T, F]."""
        return self.entry.windows(self.start, self.stop)


@dataclass
class Batch:
    """What one run takes, and what was found too late on the way."""

    slices: list[Slice] = field(default_factory=list)
    expired: list[Entry] = field(default_factory=list)

    @property
    def num_windows(self) -> int:
        """Windows in the run."""
        return sum(piece.num_windows for piece in self.slices)


class Scheduler:
    """A queue bounded in windows. `can_admit` before `admit`, always."""

    def __init__(self, *, max_batch_windows: int, max_queue_windows: int) -> None:
        self.max_batch_windows = max_batch_windows
        self.max_queue_windows = max_queue_windows
        self._queue: deque[Entry] = deque()
        self._queued_windows = 0

    @property
    def queued_windows(self) -> int:
        """Windows waiting for their current step."""
        return self._queued_windows

    def __len__(self) -> int:
        return len(self._queue)

    def can_admit(self, num_windows: int) -> bool:
        """Whether a call of `num_windows` fits. An empty queue takes any call, or a large one could never run."""
        return not self._queued_windows or self._queued_windows + num_windows <= self.max_queue_windows

    def admit(self, entry: Entry) -> None:
        """Queue a call behind the others; so, too, one that has more steps to go, or it would hold them all up."""
        self._queue.append(entry)
        entry.queued_windows = entry.num_windows
        self._queued_windows += entry.num_windows

    def close(self, entry: Entry) -> None:
        """Give up the place of a call whose caller has left or has its answer; closing twice is nothing."""
        entry.closed = True
        self._queued_windows -= entry.queued_windows
        entry.queued_windows = 0

    def take(self, now: float) -> Batch:
        """Remove the next run's windows. Entries whose caller left are skipped, late ones are closed and handed back.

        A call that does not fit whole goes behind the others with what is left of it: nobody waits for more than
        one run of a large call.
        """
        batch = Batch()
        room = self.max_batch_windows
        while self._queue and room:
            entry = self._queue.popleft()
            if entry.closed:
                continue
            if now >= entry.deadline:
                self.close(entry)
                batch.expired.append(entry)
                continue
            count = min(room, entry.queued_windows)
            batch.slices.append(Slice(entry, entry.cursor, entry.cursor + count))
            entry.cursor += count
            entry.queued_windows -= count
            self._queued_windows -= count
            room -= count
            if entry.queued_windows:
                self._queue.append(entry)
        return batch

    def drop_all(self) -> Iterator[Entry]:
        """Empty the queue, yielding every entry whose caller still waits."""
        while self._queue:
            entry = self._queue.popleft()
            if not entry.closed:
                self.close(entry)
                yield entry
