"""Which windows run next: first come first served, packed with those of the same graph up to the largest batch.

Plain policy: no thread, socket, clock or onnxruntime. Time comes in as an argument.
"""

import itertools
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
    """What one run takes, all of one graph, and what was found too late on the way."""

    slices: list[Slice]
    expired: list[Entry]

    @property
    def num_windows(self) -> int:
        """Windows in the run."""
        return sum(piece.num_windows for piece in self.slices)

    @property
    def graph(self) -> str:
        """What is run."""
        return self.slices[0].entry.graph


class Scheduler:
    """A queue bounded in windows. `can_admit` before `admit`, always."""

    def __init__(self, *, max_batch_windows: int, max_queue_windows: int) -> None:
        self.max_batch_windows = max_batch_windows
        self.max_queue_windows = max_queue_windows
        # Calls by the graph that runs them next, oldest first, each with its place in the order of all.
        self._queues: dict[str, deque[tuple[int, Entry]]] = {}
        self._places = itertools.count()
        self._queued_windows = 0

    @property
    def queued_windows(self) -> int:
        """Windows waiting for their current step."""
        return self._queued_windows

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def can_admit(self, num_windows: int) -> bool:
        """Whether a call of `num_windows` fits. An empty queue takes any call, or a large one could never run."""
        return not self._queued_windows or self._queued_windows + num_windows <= self.max_queue_windows

    def admit(self, entry: Entry) -> None:
        """Queue a call behind the others; so, too, one that has more steps to go, or it would hold them all up."""
        self._append(entry)
        entry.queued_windows = entry.num_windows
        self._queued_windows += entry.num_windows

    def _append(self, entry: Entry) -> None:
        self._queues.setdefault(entry.graph, deque()).append((next(self._places), entry))

    def close(self, entry: Entry) -> None:
        """Give up the place of a call whose caller has left or has its answer; closing twice is nothing."""
        entry.closed = True
        self._queued_windows -= entry.queued_windows
        entry.queued_windows = 0

    def take(self, now: float) -> Batch:
        """Remove the next run's windows. Entries whose caller left are skipped, late ones are closed and handed back.

        The call that waits longest chooses the graph; others of the same graph join it, in their order. A call that
        does not fit whole goes behind the others with what is left of it: nobody waits for more than one run of a
        large call.
        """
        batch = Batch([], [])
        for queue in self._queues.values():
            self._drop_dead(queue, now, batch.expired)
        # Empty ones are forgotten.
        self._queues = {graph: queue for graph, queue in self._queues.items() if queue}
        if self._queues:
            self._fill(batch, min(self._queues.values(), key=lambda queue: queue[0][0]), now)
        return batch

    def _drop_dead(self, queue: deque[tuple[int, Entry]], now: float, expired: list[Entry]) -> None:
        """Until the first call is one that somebody waits for."""
        while queue and (queue[0][1].closed or now >= queue[0][1].deadline):
            _, entry = queue.popleft()
            if not entry.closed:
                self.close(entry)
                expired.append(entry)

    def _fill(self, batch: Batch, queue: deque[tuple[int, Entry]], now: float) -> None:
        rollout = queue[0][1].rollout
        room = rollout.max_windows if rollout else self.max_batch_windows
        while queue and room:
            _, entry = queue.popleft()
            count = min(room, entry.queued_windows)
            batch.slices.append(Slice(entry, entry.cursor, entry.cursor + count))
            entry.cursor += count
            entry.queued_windows -= count
            self._queued_windows -= count
            room -= count
            if entry.queued_windows:
                self._append(entry)
            self._drop_dead(queue, now, batch.expired)

    def drop_all(self) -> Iterator[Entry]:
        """Empty the queue, yielding every entry whose caller still waits, oldest first."""
        waiting = sorted(itertools.chain(*self._queues.values()), key=lambda placed: placed[0])
        self._queues.clear()
        for _, entry in waiting:
            if not entry.closed:
                self.close(entry)
                yield entry
