"""Carries calls through one model's engine: the loop queues and replies, one thread runs.

Nothing ever waits for company: a run starts as soon as the engine is idle, with whatever has queued up
while it was busy. A run that is shorter than its way to the thread and back is made on the loop.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.artifact.manifest import CARRY, SLIDING
from server.entry import Ends, Entry
from server.errors import DeadlinePassed, Draining, NotFinite, QueueFull, RunFailed
from server.metrics import ModelMetrics
from server.pace import Pace
from server.rollout import Rollout
from server.scheduler import Batch, Scheduler, Slice
from server.tensors import LOWER, NEXT, SHOWN, UPPER, WINDOW, Tensors, is_finite, joined
from server.turns import stand_back

logger = logging.getLogger("nextvalue.batcher")

RunGraph = Callable[[Tensors], Tensors]
# The same for a rollout, by its graph.
Roll = Callable[[str, Tensors], Tensors]
# Whether a run of a graph, for so many windows, may be made on the loop.
IsShort = Callable[[str, int], bool]
# Called on the loop after each run with its graph, inputs and outputs; must not block.
Observe = Callable[[str, Tensors, Tensors], None]

MIN_PUSHBACK_MS, MAX_PUSHBACK_MS = 1, 1000


class Answer(NamedTuple):
    """Predictions [N, horizon] and where the time went, seconds; and what else was asked for.

    `ends` are those of the intervals, `levels` their L levels. `num_unknown_series` of the windows are of a series that
    the model does not know. The batcher gives every level and counts nothing.
    """

    predictions_NH: NDArray[np.float32]
    queue_seconds: float
    run_seconds: float
    ends: Ends | None = None
    levels: Sequence[float] = ()
    num_unknown_series: int = 0


class _Run(NamedTuple):
    """What one run of the engine took and gave, and its seconds."""

    graph: str
    inputs: Tensors
    outputs: Tensors
    num_windows: int
    seconds: float


class Waiting:
    """One caller: its reply and its clocks."""

    def __init__(self, reply: asyncio.Future[Answer]) -> None:
        self.reply = reply
        self.queue_seconds = 0.0
        self.run_seconds = 0.0


def first_not_finite(*arrays: NDArray[np.float32]) -> int | None:
    """The first row in which an array has NaN or infinity; None if there is none."""
    for array in arrays:
        finite = np.isfinite(array)
        if not finite.all():
            return int(finite.reshape(len(array), -1).all(axis=1).argmin())
    return None


def new_engine_thread(name: str) -> ThreadPoolExecutor:
    """The one thread that loads and runs a version's graphs."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"engine-{name}", initializer=stand_back)


def never_short(_graph: str, _num_windows: int) -> bool:
    """Every run is the thread's."""
    return False


class Batcher:
    """Batches the calls of one model version. Every method belongs to the event loop's thread."""

    # What is made of each caller; another where they are watched.
    waiting_type: Callable[[asyncio.Future[Answer]], Waiting] = Waiting

    def __init__(
        self,
        run: RunGraph,
        *,
        scheduler: Scheduler,
        metrics: ModelMetrics,
        observe: Observe,
        name: str,
        direct_horizon: int = 1,
        num_levels: int = 0,
        roll: Roll | None = None,
        rollouts: Sequence[Rollout] = (),
        is_short: IsShort = never_short,
        max_queue_seconds: float = math.inf,
        engine_thread: ThreadPoolExecutor | None = None,
    ) -> None:
        """`run` maps inputs of a window graph to its outputs (server.tensors); it is called on a thread of its own.

        So does `roll` for the graphs of `rollouts`, which give more values ahead. The thread is `engine_thread` where
        one is given, and ends with the batcher. Runs that `is_short` tells are made on the loop; never two at once.
        Calls are refused while those that wait will take longer than about `max_queue_seconds`.
        """
        self._run = run
        self._roll = roll
        self._is_short = is_short
        self._rollouts = {rollout.graph: rollout for rollout in rollouts}
        self._direct_horizon = direct_horizon
        self._num_levels = num_levels
        # What a row of each output must be.
        self._row_shapes: list[tuple[str, tuple[int, ...]]] = [(NEXT, (direct_horizon,))]
        if num_levels:
            self._row_shapes += [(name, (direct_horizon, num_levels)) for name in (LOWER, UPPER)]
        self._scheduler = scheduler
        self._metrics = metrics
        self._observe = observe
        self._name = name
        self._engine_thread = engine_thread or new_engine_thread(name)
        self._waiting: dict[Entry, Waiting] = {}
        self._busy = False
        self._start_scheduled = False
        self._draining = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._max_queue_seconds = max_queue_seconds
        self.pace = Pace(scheduler.max_batch_windows)
        metrics.queue_windows.set_function(lambda: scheduler.queued_windows)

    @property
    def carry_horizon(self) -> int:
        """How many values ahead the state can go on; 0 without a graph for it."""
        carry = self._rollouts.get(CARRY)
        return carry.length if carry else 0

    async def predict(
        self,
        windows_NTF: NDArray[np.float32],
        *,
        horizon: int = 1,
        future_NHF: NDArray[np.float32] | None = None,
        time_seconds_NT: NDArray[np.int64] | None = None,
        series_N1: NDArray[np.int64] | None = None,
        intervals: bool = False,
        rollout: str = SLIDING,
        deadline: float = math.inf,
    ) -> Answer:
        """Predict `horizon` values after each window; `deadline` is on the loop's clock, seconds.

        `rollout`: what follows a value that was fed back, CARRY only where there is such a graph and it is long enough.

        All calls of a model give the same ones of `time_seconds_NT` and `series_N1`.

        Raises QueueFull, Draining, DeadlinePassed, or RunFailed (NotFinite where the prediction is no number).
        Cancelling the caller gives its place up without a trace in the others' answers.
        """
        if self._draining:
            raise Draining("the server is shutting down")
        num_windows = len(windows_NTF)
        if not self._scheduler.can_admit(num_windows):
            raise QueueFull(
                f"queue of model {self._name!r} is full: {self._scheduler.queued_windows} windows wait, "
                f"{num_windows} more would pass the limit of {self._scheduler.max_queue_windows}",
                pushback_ms=self._pushback_ms(),
            )
        if self._queue_seconds() > self._max_queue_seconds:
            raise QueueFull(
                f"queue of model {self._name!r} is full: {self._scheduler.queued_windows} windows wait, which takes "
                f"about {1000 * self._queue_seconds():.0f} ms; the limit is {1000 * self._max_queue_seconds:.0f}",
                pushback_ms=self._pushback_ms(),
            )
        loop = asyncio.get_running_loop()
        entry = Entry(
            windows_NTF,
            horizon=horizon,
            future_NHF=future_NHF,
            deadline=deadline,
            enqueued=loop.time(),
            direct_horizon=self._direct_horizon,
            time_seconds_NT=time_seconds_NT,
            series_N1=series_N1,
            num_levels=self._num_levels if intervals else 0,
            rollout=self._rollout(rollout, num_windows),
        )
        waiting = self._waiting[entry] = self.waiting_type(loop.create_future())
        self._scheduler.admit(entry)
        self._idle.clear()
        if not self._busy and not self._start_scheduled:
            # Not at once: calls that arrived in the same turn of the loop join the same run.
            self._start_scheduled = True
            loop.call_soon(self._start)
        try:
            return await waiting.reply
        finally:
            self._scheduler.close(entry)
            self._waiting.pop(entry, None)

    def _rollout(self, kind: str, num_windows: int) -> Rollout | None:
        found = self._rollouts.get(kind)
        if kind == CARRY:
            return found
        return found if found and num_windows <= found.max_windows else None

    def _queue_seconds(self) -> float:
        return self.pace.seconds(self._scheduler.queued_windows)

    def _pushback_ms(self) -> int:
        """About how long the queue needs to drain."""
        estimate = math.ceil(1000 * self._queue_seconds())
        return min(max(estimate, MIN_PUSHBACK_MS), MAX_PUSHBACK_MS)

    def _start(self) -> None:
        """Run the next batch, if there is one and the engine is idle."""
        self._start_scheduled = False
        if self._busy or self._closed:
            return
        loop = asyncio.get_running_loop()
        batch = self._scheduler.take(loop.time())
        for entry in batch.expired:
            self._fail(entry, DeadlinePassed("the deadline passed while the call was queued"))
        if not batch.slices:
            if not len(self._scheduler):
                self._idle.set()
            return
        self._busy = True
        now = loop.time()
        for piece in batch.slices:
            if piece.start == 0 and (waiting := self._waiting.get(piece.entry)):
                seconds = now - piece.entry.enqueued
                if piece.entry.step == 0:
                    self._metrics.queue_seconds.observe(seconds)
                waiting.queue_seconds += seconds
        if self._is_short(batch.graph, batch.num_windows):
            self._finish(batch, self._outcome(batch))
            # Not sooner than the answers are on their way and what came meanwhile is read.
            self._start_scheduled = True
            loop.call_soon(loop.call_soon, self._start)
        else:
            self._engine_thread.submit(self._work, batch, loop)

    def _work(self, batch: Batch, loop: asyncio.AbstractEventLoop) -> None:
        """On the engine thread: run, and tell the loop how it went."""
        loop.call_soon_threadsafe(self._finish_and_go_on, batch, self._outcome(batch))

    def _outcome(self, batch: Batch) -> "_Run | Exception":
        try:
            return self._run_batch(batch)
        except Exception as error:  # noqa: BLE001 (whatever it is, the callers of this batch must hear of it)
            return error

    def _run_batch(self, batch: Batch) -> "_Run":
        """One run for the whole batch."""
        started = perf_counter()
        inputs = joined([piece.inputs() for piece in batch.slices])
        num_windows = len(inputs[WINDOW])
        graph, rollout = batch.graph, batch.slices[0].entry.rollout
        if rollout is None:
            outputs, row_shapes = self._run(inputs), self._row_shapes
        else:
            assert self._roll is not None, "who has rollouts can run them"
            outputs, row_shapes = self._roll(graph, inputs), [(NEXT, (rollout.length,))]
        for name, row_shape in row_shapes:
            if outputs[name].shape != (num_windows, *row_shape):
                # numpy would broadcast or cut it, and callers would get their neighbours' answers.
                raise ValueError(
                    f"the engine answered {name} {list(outputs[name].shape)} for {num_windows} windows. This is a bug."
                )
        return _Run(graph, inputs, outputs, num_windows, perf_counter() - started)

    def _finish_and_go_on(self, batch: Batch, outcome: "_Run | Exception") -> None:
        self._finish(batch, outcome)
        self._start()

    def _finish(self, batch: Batch, outcome: "_Run | Exception") -> None:
        """Hand out the results."""
        self._busy = False
        if isinstance(outcome, Exception):
            logger.error("a run of %d windows of model %s failed", batch.num_windows, self._name, exc_info=outcome)
            for piece in batch.slices:
                self._fail(piece.entry, RunFailed("the engine failed; the server's log has the detail"))
        else:
            self._metrics.ran(outcome.num_windows, outcome.seconds)
            # A rollout takes longer, and so does what waits for one.
            self.pace.ran(outcome.num_windows, outcome.seconds)
            self._hand_out(batch.slices, outcome)
            self._show(outcome)

    def _hand_out(self, slices: Sequence[Slice], run: "_Run") -> None:
        now = asyncio.get_running_loop().time()
        finite = all(is_finite(run.outputs[name]) for name in SHOWN if name in run.outputs)
        start = 0
        for piece in slices:
            rows = slice(start, start + piece.num_windows)
            start = rows.stop
            entry = piece.entry
            waiting = self._waiting.get(entry)
            if waiting is None or entry.closed:
                continue
            waiting.run_seconds += run.seconds
            next_BW, ends = run.outputs[NEXT][rows, : entry.num_wanted], None
            if entry.ends is not None:
                ends = Ends(*(run.outputs[name][rows, : entry.num_wanted] for name in (LOWER, UPPER)))
            row = None if finite else first_not_finite(next_BW, *(ends or ()))
            if row is not None:
                self._fail(entry, NotFinite(piece.start + row))
                continue
            step = entry.step
            entry.accept(piece.start, piece.stop, next_BW, ends)
            if entry.finished:
                self._metrics.predictions.inc(entry.num_windows * entry.horizon)
                if not waiting.reply.done():
                    waiting.reply.set_result(
                        Answer(entry.predictions_NH, waiting.queue_seconds, waiting.run_seconds, entry.ends)
                    )
            elif entry.step > step:
                entry.enqueued = now
                self._scheduler.admit(entry)

    def _show(self, run: "_Run") -> None:
        try:
            self._observe(run.graph, run.inputs, run.outputs)
        except Exception:
            logger.exception("the observer of model %s failed", self._name)

    def _fail(self, entry: Entry, error: Exception) -> None:
        self._scheduler.close(entry)
        waiting = self._waiting.get(entry)
        if waiting is not None and not waiting.reply.done():
            waiting.reply.set_exception(error)

    async def drain(self) -> None:
        """Take nothing new and wait until everything admitted has its answer."""
        self._draining = True
        await self._idle.wait()

    def close(self) -> None:
        """Fail whoever still waits, in a run or for one, and end the engine thread. `drain` first for a clean end."""
        self._draining = self._closed = True
        for entry in (*self._scheduler.drop_all(), *self._waiting):
            self._fail(entry, Draining("the server is shutting down"))
        self._idle.set()
        self._engine_thread.shutdown(wait=False)
