"""Which windows run next: first come first served, packed up to the largest batch.

Plain policy: no thread, socket, clock or onnxruntime. Time comes in as an argument.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from server.entry import Entry
from server.tensors import Tensors


class Slice(NamedTuple):
    """Windows `start` to `stop` of one entry."""

    entry: Entry
    start: int
    stop: int

    @property
    def num_windows(self) -> int:
        """How many."""
        return self.stop - self.start

    def inputs(self) -> Tensors:
        """What the graph takes of them."""
        return self.entry.inputs(self.start, self.stop)


class Batch(NamedTuple):
    """What one run takes, and what was found too late on the way."""

    slices: list[Slice]
    expired: list[Entry]

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
        batch = Batch([], [])
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
