"""The batcher on a loop, with a made-up engine whose answers depend on every value of a window and its place."""

import asyncio
import itertools
import logging
import math
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from server.batcher import Answer, Batcher
from server.errors import DeadlinePassed, Draining, NotFinite, QueueFull, RunFailed
from server.metrics import Metrics
from server.scheduler import Scheduler
from tests.server.harness import LIMIT_SECONDS, eventually

Windows = NDArray[np.float32]
WINDOW = 4


def following(windows_BTF: Windows) -> Windows:
    """A prediction [B, 1] that no other window of the test shares."""
    weights = np.arange(1, windows_BTF[0].size + 1, dtype=np.float64).reshape(windows_BTF.shape[1:])
    sums_B = (windows_BTF * weights).sum(axis=(1, 2), dtype=np.float64)
    return np.asarray(np.tanh(sums_B / 100)[:, None], np.float32)


def slid(windows_NTF: Windows, horizon: int, future_NHF: Windows | None = None) -> Windows:
    """The right answer: the loop over the horizon written out."""
    predictions = []
    for k in range(horizon):
        predictions.append(following(windows_NTF))
        row = predictions[-1]
        if k + 1 < horizon:
            if future_NHF is not None:
                row = np.concatenate((row, future_NHF[:, k]), axis=1)
            windows_NTF = np.concatenate((windows_NTF[:, 1:], row[:, None]), axis=1)
    return np.concatenate(predictions, axis=1)


class FakeEngine:
    """Runs are held until let go; every batch is remembered. `raises` spoils runs by number, `change` all of them."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.raises: dict[int, Exception] = {}
        self.change: Callable[[Windows, Windows], Windows] = lambda _, predictions: predictions

    def run(self, windows_BTF: Windows) -> Windows:
        assert windows_BTF.flags.c_contiguous
        self.batches.append(len(windows_BTF))
        assert self.go.wait(LIMIT_SECONDS)
        if error := self.raises.get(len(self.batches)):
            raise error
        return self.change(windows_BTF, following(windows_BTF))

    async def running(self, num_batches: int = 1) -> None:
        await eventually(lambda: len(self.batches) >= num_batches, "a run")


class Bench:
    """A batcher on a fake engine, and its metrics."""

    def __init__(self, *, max_batch_windows: int = 8, max_queue_windows: int = 1000) -> None:
        self.engine = FakeEngine()
        self.registry = CollectorRegistry()
        self.scheduler = Scheduler(max_batch_windows=max_batch_windows, max_queue_windows=max_queue_windows)
        self.observed: list[tuple[Windows, Windows]] = []
        self.batcher = Batcher(
            self.engine.run,
            scheduler=self.scheduler,
            metrics=Metrics(self.registry).for_model("m", 3),
            observe=self._observe,
            name="m",
        )

    def _observe(self, windows_BTF: Windows, next_B1: Windows) -> None:
        self.observed.append((windows_BTF, next_B1))

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, {"model": "m"} | labels) or 0.0

    def call(self, windows: Windows, **options: Any) -> asyncio.Task[Answer]:
        return asyncio.create_task(self.batcher.predict(windows, **options))

    async def queued(self, num_windows: int) -> None:
        await eventually(lambda: self.scheduler.queued_windows == num_windows, f"{num_windows} windows in the queue")


@asynccontextmanager
async def bench(**options: int) -> AsyncIterator[Bench]:
    made = Bench(**options)
    try:
        yield made
    finally:
        made.engine.go.set()
        made.batcher.close()


def random_windows(generator: np.random.Generator, num_windows: int, num_features: int = 1) -> Windows:
    return generator.standard_normal((num_windows, WINDOW, num_features), np.float32)


async def within_limit(work: Coroutine[Any, Any, Answer] | asyncio.Task[Answer]) -> Answer:
    """An answer that never comes is a failure, not a hang."""
    return await asyncio.wait_for(work, LIMIT_SECONDS)


async def test_every_caller_gets_its_own_answer(generator: np.random.Generator) -> None:
    async with bench(max_queue_windows=10_000) as b:
        sizes = generator.integers(1, [12, 5], (200, 2)).tolist()
        sent = [(random_windows(generator, num_windows), horizon) for num_windows, horizon in sizes]
        tasks = [b.call(windows, horizon=horizon) for windows, horizon in sent]
        for task, (windows, horizon) in zip(tasks, sent, strict=True):
            np.testing.assert_array_equal((await within_limit(task)).predictions_NH, slid(windows, horizon))
        assert max(b.engine.batches) == 8
        assert sum(b.engine.batches) == sum(len(windows) * horizon for windows, horizon in sent)
        assert b.sample("nextvalue_predictions_total", version="3") == sum(b.engine.batches)
        assert b.sample("nextvalue_batch_windows_sum") == sum(b.engine.batches)
        assert b.sample("nextvalue_batch_windows_count") == len(b.engine.batches)
        assert b.sample("nextvalue_phase_seconds_count", phase="run") == len(b.engine.batches)
        assert b.sample("nextvalue_phase_seconds_count", phase="queue") == len(sent)
        assert b.sample("nextvalue_queue_windows") == 0


async def test_horizons_with_covariates_beside_single_steps(generator: np.random.Generator) -> None:
    async with bench() as b:
        calls = []
        for k in range(60):
            windows = random_windows(generator, int(generator.integers(1, 12)), 3)
            horizon = int(generator.integers(2, 7)) if k % 2 else 1
            future = generator.standard_normal((len(windows), horizon - 1, 2), np.float32) if horizon > 1 else None
            calls.append((b.call(windows, horizon=horizon, future_NHF=future), slid(windows, horizon, future)))
        for task, expected in calls:
            np.testing.assert_array_equal((await within_limit(task)).predictions_NH, expected)


@pytest.mark.parametrize(("num_windows", "horizon"), [(80, 1), (8, 50), (80, 50)])
async def test_a_large_call_holds_nobody_up(generator: np.random.Generator, num_windows: int, horizon: int) -> None:
    """Whoever comes later waits for the run in progress and at most one more."""
    small = random_windows(generator, 1)
    runs_of_small: list[int] = []
    async with bench() as b:

        def look(windows: Windows, predictions: Windows) -> Windows:
            if (windows == small).all(axis=(1, 2)).any():
                runs_of_small.append(len(b.engine.batches))
            return predictions

        b.engine.change = look
        b.engine.go.clear()
        large = b.call(random_windows(generator, num_windows), horizon=horizon)
        await b.engine.running()
        task = b.call(small)
        await b.queued(num_windows - 8 + 1)
        b.engine.go.set()
        np.testing.assert_array_equal((await within_limit(task)).predictions_NH, slid(small, 1))
        await within_limit(large)
        assert len(b.engine.batches) > 3
        assert runs_of_small[0] <= 3


async def test_calls_keep_their_order_from_step_to_step(generator: np.random.Generator) -> None:
    """Row for row, the next run's windows are this run's, moved on by one."""
    runs: list[Windows] = []

    def remember(windows: Windows, predictions: Windows) -> Windows:
        runs.append(windows.copy())
        return predictions

    async with bench() as b:
        b.engine.change = remember
        await asyncio.gather(*(b.call(random_windows(generator, 2), horizon=4) for _ in range(4)))
    assert [len(windows) for windows in runs] == [8] * 4
    for before, after in itertools.pairwise(runs):
        np.testing.assert_array_equal(after[:, :-1], before[:, 1:])


async def test_what_was_observed_is_what_was_served(generator: np.random.Generator) -> None:
    """The parity monitor compares like with like at every step."""
    async with bench() as b:
        await asyncio.gather(*(b.call(random_windows(generator, 5), horizon=3) for _ in range(7)))
        assert sum(len(windows) for windows, _ in b.observed) == 7 * 5 * 3
        for windows, predictions in b.observed:
            np.testing.assert_array_equal(following(windows), predictions)


async def test_a_call_larger_than_a_batch_is_split(generator: np.random.Generator) -> None:
    async with bench() as b:
        windows = random_windows(generator, 21)
        np.testing.assert_array_equal((await b.batcher.predict(windows)).predictions_NH, slid(windows, 1))
        assert b.engine.batches == [8, 8, 5]


async def test_the_callers_arrays_are_left_alone(generator: np.random.Generator) -> None:
    async with bench() as b:
        windows = random_windows(generator, 3)
        kept = windows.copy()
        windows.flags.writeable = False
        await b.batcher.predict(windows, horizon=4)
        np.testing.assert_array_equal(windows, kept)


async def test_calls_of_one_turn_share_a_run(generator: np.random.Generator) -> None:
    async with bench() as b:
        await asyncio.gather(*(b.call(random_windows(generator, 2)) for _ in range(4)))
        assert b.engine.batches == [8]


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("leaver", [0, 2, 4])
async def test_one_caller_leaves_before_the_run(generator: np.random.Generator, leaver: int, horizon: int) -> None:
    async with bench() as b:
        b.engine.go.clear()
        first = b.call(random_windows(generator, 1))
        await b.engine.running()
        sent = [random_windows(generator, 1) for _ in range(5)]
        tasks = [b.call(windows, horizon=horizon) for windows in sent]
        await b.queued(5)
        tasks[leaver].cancel()
        await asyncio.wait([tasks[leaver]])
        b.engine.go.set()
        await within_limit(first)
        await expect_all_but(leaver, tasks, [slid(windows, horizon) for windows in sent])
        assert b.engine.batches[1:] == [4] * horizon, "the one who left cost a run"


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("leaver", [0, 2, 4])
async def test_one_caller_leaves_during_the_run(generator: np.random.Generator, leaver: int, horizon: int) -> None:
    async with bench() as b:
        b.engine.go.clear()
        sent = [random_windows(generator, 1) for _ in range(5)]
        tasks = [b.call(windows, horizon=horizon) for windows in sent]
        await b.engine.running()
        tasks[leaver].cancel()
        await asyncio.wait([tasks[leaver]])
        b.engine.go.set()
        await expect_all_but(leaver, tasks, [slid(windows, horizon) for windows in sent])
        assert b.engine.batches == [5] + [4] * (horizon - 1)


@pytest.mark.parametrize("leaver", [0, 2, 4])
async def test_one_caller_leaves_after_the_run(generator: np.random.Generator, leaver: int) -> None:
    """Its answer is there and it has not yet been told."""
    async with bench() as b:
        sent = [random_windows(generator, 1) for _ in range(5)]
        tasks: list[asyncio.Task[Answer]] = []

        def cancel_when_answered(_: Windows, __: Windows) -> None:
            # Called when the replies are set and nobody has yet been told.
            asyncio.get_running_loop().call_soon(tasks[leaver].cancel)

        b.batcher._observe = cancel_when_answered
        tasks.extend(b.call(windows) for windows in sent)
        await asyncio.wait(tasks)
        for k, task in enumerate(tasks):
            if k != leaver:
                np.testing.assert_array_equal(task.result().predictions_NH, slid(sent[k], 1))
        windows = random_windows(generator, 2)
        np.testing.assert_array_equal((await within_limit(b.call(windows))).predictions_NH, slid(windows, 1))


async def expect_all_but(leaver: int, tasks: list[asyncio.Task[Answer]], expected: list[Windows]) -> None:
    for k, (task, answer) in enumerate(zip(tasks, expected, strict=True)):
        if k == leaver:
            assert task.cancelled()
        else:
            np.testing.assert_array_equal((await within_limit(task)).predictions_NH, answer)


async def test_a_split_call_that_leaves_halfway_runs_no_further(generator: np.random.Generator) -> None:
    async with bench() as b:
        b.engine.go.clear()
        large = b.call(random_windows(generator, 20))
        await b.engine.running()
        small = random_windows(generator, 2)
        other = b.call(small)
        await b.queued(14)
        large.cancel()
        await asyncio.wait([large])
        b.engine.go.set()
        np.testing.assert_array_equal((await within_limit(other)).predictions_NH, slid(small, 1))
        assert b.engine.batches == [8, 2]


async def test_a_deadline_that_passes_in_the_queue_costs_no_run(generator: np.random.Generator) -> None:
    async with bench() as b:
        b.engine.go.clear()
        first = b.call(random_windows(generator, 1))
        await b.engine.running()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 0.02
        late = b.call(random_windows(generator, 1), deadline=deadline)
        kept = random_windows(generator, 1)
        patient = b.call(kept, deadline=math.inf)
        await b.queued(2)
        await eventually(lambda: loop.time() > deadline, "the deadline")
        b.engine.go.set()
        with pytest.raises(DeadlinePassed):
            await within_limit(late)
        np.testing.assert_array_equal((await within_limit(patient)).predictions_NH, slid(kept, 1))
        await within_limit(first)
        assert b.engine.batches == [1, 1]


async def test_a_deadline_already_past_costs_no_run(generator: np.random.Generator) -> None:
    async with bench() as b:
        with pytest.raises(DeadlinePassed):
            await within_limit(b.batcher.predict(random_windows(generator, 1), deadline=-1.0))
        assert b.engine.batches == []
        await asyncio.wait_for(b.batcher.drain(), LIMIT_SECONDS)


async def test_a_deadline_between_two_steps_ends_a_horizon(generator: np.random.Generator) -> None:
    async with bench() as b:
        b.engine.go.clear()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 0.05
        late = b.call(random_windows(generator, 1), horizon=5, deadline=deadline)
        await b.engine.running()
        await eventually(lambda: loop.time() > deadline, "the deadline")
        b.engine.go.set()
        with pytest.raises(DeadlinePassed):
            await within_limit(late)
        assert b.engine.batches == [1]


async def test_a_run_that_raises_fails_its_batch_alone(
    generator: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench() as b:
        b.engine.go.clear()
        first = b.call(random_windows(generator, 8))
        await b.engine.running()
        doomed = [b.call(random_windows(generator, 4), horizon=2) for _ in range(2)]
        sent = random_windows(generator, 5)
        spared = b.call(sent, horizon=2)
        await b.queued(13)
        b.engine.raises[2] = RuntimeError("the secret detail")
        b.engine.go.set()
        await within_limit(first)
        for task in doomed:
            with pytest.raises(RunFailed) as caught:
                await within_limit(task)
            assert "secret" not in str(caught.value)
        np.testing.assert_array_equal((await within_limit(spared)).predictions_NH, slid(sent, 2))
        assert b.engine.batches == [8, 8, 5, 5]
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert record.exc_info
        assert "the secret detail" in str(record.exc_info[1])
        await asyncio.wait_for(b.batcher.drain(), LIMIT_SECONDS)


@pytest.mark.parametrize(
    "spoil", [lambda _, predictions: predictions[:, 0], lambda _, predictions: predictions[:-1]], ids=["flat", "short"]
)
async def test_an_engine_that_answers_in_another_shape_fails_its_batch(
    generator: np.random.Generator, spoil: Callable[[Windows, Windows], Windows]
) -> None:
    """Nobody waits for ever, and nobody gets a neighbour's answer."""
    async with bench() as b:
        b.engine.change = spoil
        tasks = [b.call(random_windows(generator, 2)) for _ in range(3)]
        for task in tasks:
            with pytest.raises(RunFailed):
                await within_limit(task)
        b.engine.change = lambda _, predictions: predictions
        windows = random_windows(generator, 2)
        np.testing.assert_array_equal((await within_limit(b.call(windows))).predictions_NH, slid(windows, 1))


async def test_an_observer_that_raises_hurts_nobody(
    generator: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench() as b:

        def observe(_: Windows, __: Windows) -> None:
            raise RuntimeError("the monitor broke")

        b.batcher._observe = observe
        windows = random_windows(generator, 2)
        answer = await within_limit(b.call(windows, horizon=2))
        np.testing.assert_array_equal(answer.predictions_NH, slid(windows, 2))
        assert "the monitor broke" in caplog.text


async def test_a_prediction_that_is_not_finite_fails_its_caller_alone(generator: np.random.Generator) -> None:
    async with bench() as b:
        sent = [random_windows(generator, 2) for _ in range(3)]
        sent[1][1] = 1e30

        def overflow(windows: Windows, predictions: Windows) -> Windows:
            return np.where(windows[:, :1, 0] > 1e29, np.float32("inf"), predictions)

        b.engine.change = overflow
        tasks = [b.call(windows, horizon=3) for windows in sent]
        with pytest.raises(NotFinite, match="window 1 "):
            await within_limit(tasks[1])
        for k in (0, 2):
            np.testing.assert_array_equal((await within_limit(tasks[k])).predictions_NH, slid(sent[k], 3))


async def test_a_full_queue_refuses_at_once(generator: np.random.Generator) -> None:
    async with bench(max_queue_windows=10) as b:
        b.engine.go.clear()
        first = b.call(random_windows(generator, 1))
        await b.engine.running()
        waiting = b.call(random_windows(generator, 9))
        await b.queued(9)
        with pytest.raises(QueueFull, match="limit of 10") as caught:
            await b.batcher.predict(random_windows(generator, 2))
        assert 1 <= caught.value.pushback_ms <= 1000
        fits = b.call(random_windows(generator, 1))
        await b.queued(10)
        assert b.sample("nextvalue_queue_windows") == 10
        b.engine.go.set()
        for task in (first, waiting, fits):
            await within_limit(task)


async def test_pushback_grows_with_the_queue(generator: np.random.Generator) -> None:
    async with bench(max_queue_windows=1) as b:
        b.batcher._seconds_per_window = 0.01
        b.engine.go.clear()
        first = b.call(random_windows(generator, 1))
        await b.engine.running()
        waiting = b.call(random_windows(generator, 20))
        await b.queued(20)
        with pytest.raises(QueueFull) as caught:
            await b.batcher.predict(random_windows(generator, 1))
        assert caught.value.pushback_ms == 200
        b.engine.go.set()
        await within_limit(first)
        await within_limit(waiting)


async def test_the_engine_is_never_idle_while_something_waits(generator: np.random.Generator) -> None:
    """Whenever the loop is back at rest, either nothing is queued or a run is out."""
    async with bench() as b:
        tasks = [b.call(random_windows(generator, int(generator.integers(1, 12))), horizon=3) for _ in range(40)]
        await asyncio.sleep(0)  # the calls are made
        await asyncio.sleep(0)  # and their run started
        while not all(task.done() for task in tasks):
            assert b.batcher._busy or not b.scheduler.queued_windows
            tasks[int(generator.integers(len(tasks)))].cancel()
            await asyncio.sleep(0)


async def test_drain_answers_everything(generator: np.random.Generator) -> None:
    async with bench() as b:
        b.engine.go.clear()
        sent = [random_windows(generator, 3) for _ in range(10)]
        tasks = [b.call(windows, horizon=2) for windows in sent]
        await b.engine.running()
        draining = asyncio.create_task(b.batcher.drain())
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await b.batcher.predict(sent[0])
        assert not draining.done()
        b.engine.go.set()
        await asyncio.wait_for(draining, LIMIT_SECONDS)
        for task, windows in zip(tasks, sent, strict=True):
            assert (await within_limit(task)).predictions_NH.tolist() == slid(windows, 2).tolist()


async def test_drain_of_an_idle_batcher_ends_at_once() -> None:
    async with bench() as b:
        await asyncio.wait_for(b.batcher.drain(), LIMIT_SECONDS)


@pytest.mark.parametrize("horizon", [1, 3])
async def test_close_fails_what_waits(generator: np.random.Generator, horizon: int) -> None:
    """Nobody hangs: not the queued, and not those whose next step would have been queued."""
    async with bench() as b:
        b.engine.go.clear()
        out = b.call(random_windows(generator, 8), horizon=horizon)
        await b.engine.running()
        queued = [b.call(random_windows(generator, 3), horizon=horizon) for _ in range(4)]
        await b.queued(12)
        b.batcher.close()
        for task in queued:
            with pytest.raises(Draining):
                await within_limit(task)
        with pytest.raises(Draining):
            await b.batcher.predict(random_windows(generator, 1))
        b.engine.go.set()
        done, _ = await asyncio.wait([out], timeout=LIMIT_SECONDS)
        assert done
        assert isinstance(out.exception(), Draining)
