"""The batcher when callers leave, deadlines pass, runs raise: the others never notice."""

import asyncio
import logging
import math
from collections.abc import Callable

import numpy as np
import pytest

from server.batcher import Answer
from server.errors import DeadlinePassed, NotFinite, RunFailed
from server.tensors import Tensors
from tests.server.bench import Windows, bench, random_windows, slid, within_limit
from tests.server.harness import LIMIT_SECONDS, eventually


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

        def cancel_when_answered(_: str, __: Tensors, ___: Tensors) -> None:
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

        def observe(_: str, __: Tensors, ___: Tensors) -> None:
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
