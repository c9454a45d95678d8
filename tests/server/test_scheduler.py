"""The scheduler as plain policy: no thread, no socket, no sleep."""

import math
from collections import Counter
from typing import ClassVar

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from export.artifact.manifest import CARRY, SLIDING
from server.entry import Entry
from server.rollout import Rollout
from server.scheduler import Batch, Scheduler

WINDOW = 3


SLIDES, CARRIES = Rollout(SLIDING, 3, 2), Rollout(CARRY, 4, 5)


def make_entry(
    num_windows: int,
    *,
    horizon: int = 1,
    deadline: float = math.inf,
    first: float = 0.0,
    rollout: Rollout | None = None,
) -> Entry:
    windows = first + np.arange(num_windows * WINDOW, dtype=np.float32).reshape(num_windows, WINDOW, 1)
    return Entry(windows, horizon=horizon, future_NHF=None, deadline=deadline, enqueued=0.0, rollout=rollout)


def following(windows_BTF: NDArray[np.float32]) -> NDArray[np.float32]:
    """A prediction that depends on every value and its place."""
    weighted = windows_BTF[:, :, 0] * np.arange(1, WINDOW + 1, dtype=np.float32)
    result: NDArray[np.float32] = np.remainder(weighted.sum(axis=1, keepdims=True), np.float32(9973))
    return result


def slid(windows_NTF: NDArray[np.float32], horizon: int) -> NDArray[np.float32]:
    """What an entry must hold in the end, and a rollout gives: the loop written out."""
    predictions = []
    for _ in range(horizon):
        predictions.append(following(windows_NTF))
        windows_NTF = np.concatenate((windows_NTF[:, 1:], predictions[-1][:, None]), axis=1)
    return np.concatenate(predictions, axis=1)


class Queue(RuleBasedStateMachine):
    """Random calls arrive, leave, expire, run and come back. One batch is out at a time, as the batcher has it.

    Whoever queues takes a ticket: on arrival, with the rest of a call that did not fit into a run, and again for each
    further step. Tickets are served in order.
    """

    @initialize(max_batch=st.integers(1, 8), max_queue=st.integers(1, 30))
    def start(self, max_batch: int, max_queue: int) -> None:
        self.scheduler = Scheduler(max_batch_windows=max_batch, max_queue_windows=max_queue)
        self.now = 0.0
        self.entries: list[Entry] = []
        self.sent: dict[Entry, NDArray[np.float32]] = {}
        self.num_tickets = 0
        self.ticket: dict[Entry, int] = {}
        self.waiting: dict[Entry, int] = {}  # windows of the current step not yet taken
        self.taken: Counter[tuple[Entry, int, int]] = Counter()
        self.num_runs: Counter[Entry] = Counter()  # steps and rollouts that came back whole
        self.closed: set[Entry] = set()  # left, expired or answered
        self.answered: set[Entry] = set()
        self.out: Batch | None = None

    def queue(self, entry: Entry, num_windows: int) -> None:
        self.num_tickets += 1
        self.ticket[entry] = self.num_tickets
        self.waiting[entry] = num_windows

    def close(self, entry: Entry) -> None:
        self.closed.add(entry)
        self.waiting.pop(entry, None)

    @rule(
        num_windows=st.integers(1, 12),
        horizon=st.integers(1, 4),
        patience=st.floats(0, 5) | st.just(math.inf),
        rollout=st.sampled_from([None, SLIDES, CARRIES]),
    )
    def arrive(self, num_windows: int, horizon: int, patience: float, rollout: Rollout | None) -> None:
        before = self.scheduler.queued_windows
        fits = before + num_windows <= self.scheduler.max_queue_windows
        assert self.scheduler.can_admit(num_windows) == (fits or before == 0)
        if not self.scheduler.can_admit(num_windows):
            return
        first = 1000.0 * len(self.entries)
        entry = make_entry(num_windows, horizon=horizon, deadline=self.now + patience, first=first, rollout=rollout)
        self.sent[entry] = entry.windows(0, num_windows).copy()
        self.entries.append(entry)
        self.scheduler.admit(entry)
        self.queue(entry, num_windows)

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Callers leave at any time, some after their answer, some twice."""
        entry = data.draw(st.sampled_from(self.entries))
        self.scheduler.close(entry)
        assert entry.closed
        self.close(entry)

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.out is None)
    @rule()
    def take(self) -> None:
        in_time = [entry for entry in self.waiting if entry.deadline > self.now]
        batch = self.scheduler.take(self.now)
        assert bool(batch.slices) == bool(in_time), "idle while something waits"
        if batch.slices:
            assert {piece.entry.graph for piece in batch.slices} == {batch.graph}
            assert batch.slices[0].entry is min(in_time, key=self.ticket.__getitem__), "the longest wait was not ended"
        rollout = batch.slices[0].entry.rollout if batch.slices else None
        most = rollout.max_windows if rollout else self.scheduler.max_batch_windows
        assert batch.num_windows <= most
        for entry in batch.expired:
            assert entry.deadline <= self.now
            assert entry not in self.closed, "told twice"
            assert entry.closed
            self.close(entry)
        order = [self.ticket[piece.entry] for piece in batch.slices]
        assert order == sorted(set(order)), "first come, first served, each call once"
        for piece in batch.slices:
            assert piece.entry not in self.closed
            assert piece.entry.deadline > self.now
            self.taken.update((piece.entry, piece.entry.step, row) for row in range(piece.start, piece.stop))
            rest = self.waiting.pop(piece.entry) - piece.num_windows
            if rest:
                self.queue(piece.entry, rest)
        alike = [entry for entry in self.waiting if batch.slices and entry.graph == batch.graph]
        if batch.num_windows < most:
            assert not alike, "room in the run while something waits for one like it"
        elif order:
            assert all(self.ticket[entry] > order[-1] for entry in alike), "somebody was overtaken"
        self.out = batch if batch.slices else None

    @precondition(lambda self: self.out is not None)
    @rule()
    def come_back(self) -> None:
        batch, self.out = self.out, None
        assert batch is not None
        for piece in batch.slices:
            entry = piece.entry
            if entry.closed:
                continue
            step = entry.step
            entry.accept(piece.start, piece.stop, slid(entry.windows(piece.start, piece.stop), entry.num_wanted))
            self.num_runs[entry] += entry.step > step
            if entry.finished:
                assert entry not in self.answered, "answered twice"
                self.answered.add(entry)
                np.testing.assert_array_equal(entry.predictions_NH, slid(self.sent[entry], entry.horizon))
                self.scheduler.close(entry)
                self.close(entry)
            elif entry.step > step:
                self.scheduler.admit(entry)
                self.queue(entry, entry.num_windows)

    @invariant()
    def counts(self) -> None:
        assert self.scheduler.queued_windows == sum(self.waiting.values())
        assert len(self.scheduler) >= len(self.waiting)
        assert max(self.taken.values(), default=1) == 1, "a window ran twice in one step"

    def teardown(self) -> None:
        """Run everything to its end: whoever stayed and was in time has a whole answer."""
        if not hasattr(self, "scheduler"):
            return
        while self.out is not None or len(self.scheduler):
            if self.out is not None:
                self.come_back()
            self.take()
        for entry in self.entries:
            assert entry in self.closed, "lost"
            if entry in self.answered:
                assert sum(taken is entry for taken, _, _ in self.taken) == entry.num_windows * self.num_runs[entry]
        self.counts()
        assert self.scheduler.queued_windows == 0


class TestQueue(Queue.TestCase):  # type: ignore[valid-type, misc]  # made by hypothesis
    settings: ClassVar[settings] = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_rollout_waits_for_its_turn_and_takes_its_like_along() -> None:
    scheduler = Scheduler(max_batch_windows=4, max_queue_windows=100)
    plain, rolls, later, like = make_entry(1), *(make_entry(1, horizon=3, rollout=r) for r in (SLIDES, None, SLIDES))
    for entry in (plain, rolls, later, like):
        scheduler.admit(entry)
    assert [piece.entry for piece in scheduler.take(0.0).slices] == [plain, later]
    batch = scheduler.take(0.0)
    assert ([piece.entry for piece in batch.slices], batch.graph) == ([rolls, like], SLIDING)
    assert not len(scheduler)


def test_a_call_above_the_limit_runs_when_nothing_waits() -> None:
    """Otherwise it could never run."""
    scheduler = Scheduler(max_batch_windows=4, max_queue_windows=5)
    assert scheduler.can_admit(100)
    scheduler.admit(make_entry(100))
    assert not scheduler.can_admit(1)


def test_the_rest_of_a_large_call_goes_behind_the_others() -> None:
    """Nobody waits for more than one run of it."""
    scheduler = Scheduler(max_batch_windows=4, max_queue_windows=100)
    large, small = make_entry(10), make_entry(1)
    scheduler.admit(large)
    scheduler.admit(small)
    batches = [scheduler.take(0.0) for _ in range(3)]
    assert [[(piece.entry, piece.start, piece.stop) for piece in batch.slices] for batch in batches] == [
        [(large, 0, 4)],
        [(small, 0, 1), (large, 4, 7)],
        [(large, 7, 10)],
    ]


def test_a_call_that_expires_halfway_frees_its_rest() -> None:
    scheduler = Scheduler(max_batch_windows=4, max_queue_windows=100)
    large, small = make_entry(6, deadline=1.0), make_entry(1)
    scheduler.admit(large)
    scheduler.admit(small)
    scheduler.take(0.0)
    batch = scheduler.take(1.0)
    assert batch.expired == [large]
    assert [piece.entry for piece in batch.slices] == [small]
    assert scheduler.queued_windows == 0


def test_a_caller_that_leaves_frees_its_place_at_once() -> None:
    """Not only when the engine comes past it: a queue full of the departed would turn others away."""
    scheduler = Scheduler(max_batch_windows=4, max_queue_windows=6)
    first, leaver = make_entry(1), make_entry(5)
    scheduler.admit(first)
    scheduler.admit(leaver)
    assert not scheduler.can_admit(5)
    scheduler.close(leaver)
    scheduler.close(leaver)
    assert scheduler.queued_windows == 1
    assert scheduler.can_admit(5)


def test_drop_all_yields_only_those_who_wait() -> None:
    scheduler = Scheduler(max_batch_windows=4, max_queue_windows=100)
    stays, left = make_entry(2), make_entry(3)
    scheduler.admit(left)
    scheduler.admit(stays)
    scheduler.close(left)
    assert list(scheduler.drop_all()) == [stays]
    assert (len(scheduler), scheduler.queued_windows) == (0, 0)


def test_covariates_move_with_the_window() -> None:
    windows = np.zeros((1, WINDOW, 2), np.float32)
    future = np.array([[[10.0], [20.0]]], np.float32)
    entry = Entry(windows, horizon=3, future_NHF=future, deadline=math.inf, enqueued=0.0)
    entry.accept(0, 1, np.array([[1.0]], np.float32))
    np.testing.assert_array_equal(entry.windows(0, 1)[0, -1], [1, 10])
    entry.accept(0, 1, np.array([[2.0]], np.float32))
    np.testing.assert_array_equal(entry.windows(0, 1)[0, -2:], [[1, 10], [2, 20]])
