"""The batcher on a loop: everybody's own answer, in turn, and within bounds."""

import asyncio
import itertools
import threading

import numpy as np
import pytest

from server.errors import Draining, QueueFull, RunFailed
from tests.server.bench import Windows, bench, following, random_windows, slid, within_limit
from tests.server.harness import LIMIT_SECONDS


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


@pytest.mark.parametrize("share", [1.0, 0.5])
async def test_short_runs_are_made_on_the_loop_and_answered_as_any(
    generator: np.random.Generator, share: float
) -> None:
    """Some short and some not, in turn; others of the loop get their turns between them."""
    decisions: list[bool] = []
    threads: list[bool] = []
    turns = 0

    def is_short(graph: str, num_windows: int) -> bool:
        assert graph == "window"
        assert 1 <= num_windows <= 8
        decisions.append(generator.random() < share)
        return decisions[-1]

    async with bench(max_queue_windows=10_000, is_short=is_short) as b:

        def look(_: Windows, predictions: Windows) -> Windows:
            threads.append(threading.current_thread() is threading.main_thread())
            return predictions

        b.engine.change = look
        sent = [
            (random_windows(generator, int(generator.integers(1, 12))), int(generator.integers(1, 5)))
            for _ in range(100)
        ]
        tasks = [b.call(windows, horizon=horizon) for windows, horizon in sent]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            turns += 1
        for task, (windows, horizon) in zip(tasks, sent, strict=True):
            np.testing.assert_array_equal((await within_limit(task)).predictions_NH, slid(windows, horizon))
        assert threads == decisions
        assert any(decisions)
        assert turns > len(b.engine.batches)
        await b.batcher.drain()


async def test_a_short_run_that_fails_fails_its_callers_alone(generator: np.random.Generator) -> None:
    async with bench(is_short=lambda *_: True) as b:
        b.engine.raises[1] = RuntimeError("the secret detail")
        first = b.call(random_windows(generator, 8))
        windows = random_windows(generator, 3)
        second = b.call(windows)
        with pytest.raises(RunFailed):
            await within_limit(first)
        np.testing.assert_array_equal((await within_limit(second)).predictions_NH, slid(windows, 1))


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
        b.batcher.pace.ran(8, 0.08)
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


async def test_what_would_wait_too_long_is_refused_at_once(generator: np.random.Generator) -> None:
    async with bench(max_queue_seconds=0.15) as b:
        b.batcher.pace.ran(8, 0.08)
        b.engine.go.clear()
        tasks = [b.call(random_windows(generator, 1))]
        await b.engine.running()
        tasks += [b.call(random_windows(generator, 15)), b.call(random_windows(generator, 1))]
        await b.queued(16)
        with pytest.raises(QueueFull, match="16 windows wait, which takes about 160 ms; the limit is 150") as caught:
            await b.batcher.predict(random_windows(generator, 1))
        assert caught.value.pushback_ms == 160
        b.engine.go.set()
        for task in tasks:
            await within_limit(task)
        await within_limit(b.call(random_windows(generator, 1)))


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
