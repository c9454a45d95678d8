"""The batcher on an engine that takes times and series, and gives several values and intervals: to each their own."""

import asyncio
from typing import Any

import numpy as np
import pytest

from server.errors import NotFinite, RunFailed
from tests.server.bench import (
    WINDOW,
    Bench,
    Windows,
    bench,
    ends_of,
    following,
    random_windows,
    slid,
    within_limit,
)


def random_context(generator: np.random.Generator, num_windows: int) -> dict[str, Any]:
    return {
        "time_seconds_NT": generator.integers(1, 9000, (num_windows, WINDOW)).cumsum(axis=1),
        "series_N1": generator.integers(-1, 9, (num_windows, 1)),
    }


@pytest.mark.parametrize("direct_horizon", [1, 3])
async def test_every_caller_gets_its_own_answer(generator: np.random.Generator, direct_horizon: int) -> None:
    """Calls of all sizes and horizons, some of them with intervals, batched as they come."""
    async with bench(max_queue_windows=10_000, direct_horizon=direct_horizon, num_levels=2) as b:
        calls = []
        for k in range(150):
            num_windows, horizon = generator.integers(1, [12, 9]).tolist()
            intervals = horizon <= direct_horizon and k % 3 > 0
            windows, context = random_windows(generator, num_windows), random_context(generator, num_windows)
            expected = slid(windows, horizon, **context, num_ahead=direct_horizon)
            calls.append((b.call(windows, horizon=horizon, intervals=intervals, **context), expected, intervals))
        for task, expected, intervals in calls:
            answer = await within_limit(task)
            np.testing.assert_array_equal(answer.predictions_NH, expected)
            assert (answer.ends is not None) == intervals
            if answer.ends is not None:
                lower, upper = ends_of(expected, 2)
                np.testing.assert_array_equal(answer.ends.lower, lower)
                np.testing.assert_array_equal(answer.ends.upper, upper)
        assert max(b.engine.batches) == 8
        num_runs = sum(len(expected) * -(-expected.shape[1] // direct_horizon) for _, expected, _ in calls)
        assert sum(b.engine.batches) == num_runs, "a run was spent on values that the one before it gave"
        assert b.sample("nextvalue_predictions_total", version="3") == sum(expected.size for _, expected, _ in calls)


async def test_covariates_and_times_slide_together(generator: np.random.Generator) -> None:
    async with bench(direct_horizon=2) as b:
        calls = []
        for _ in range(40):
            windows = random_windows(generator, int(generator.integers(1, 12)), 3)
            horizon = int(generator.integers(1, 8))
            context = random_context(generator, len(windows))
            future = generator.standard_normal((len(windows), horizon - 1, 2), np.float32) if horizon > 2 else None
            expected = slid(windows, horizon, future, **context, num_ahead=2)
            calls.append((b.call(windows, horizon=horizon, future_NHF=future, **context), expected))
        for task, expected in calls:
            np.testing.assert_array_equal((await within_limit(task)).predictions_NH, expected)


async def test_the_same_window_of_another_series_or_time_is_another_question(generator: np.random.Generator) -> None:
    """In one run: what goes with a window stays with it."""
    async with bench() as b:
        windows = np.repeat(random_windows(generator, 1), 8, axis=0)
        context = random_context(generator, 8)
        tasks = [
            b.call(windows[k : k + 1], **{name: array[k : k + 1] for name, array in context.items()}) for k in range(8)
        ]
        answers = [float((await within_limit(task)).predictions_NH[0, 0]) for task in tasks]
        assert b.engine.batches == [8]
        assert answers == following(windows, *context.values())[:, 0].tolist()
        assert len(set(answers)) == 8


async def test_the_observer_sees_all_that_went_in_and_came_out(generator: np.random.Generator) -> None:
    async with bench(direct_horizon=2, num_levels=1) as b:
        seen = []
        b.batcher._observe = lambda _, inputs, outputs: seen.append((inputs, outputs))
        windows, context = random_windows(generator, 3), random_context(generator, 3)
        await b.batcher.predict(windows, horizon=1, **context)
        ((inputs, outputs),) = seen
        np.testing.assert_array_equal(inputs["time_seconds"], context["time_seconds_NT"])
        np.testing.assert_array_equal(inputs["series"], context["series_N1"])
        assert {name: array.shape for name, array in outputs.items()} == {
            "next": (3, 2), "lower": (3, 2, 1), "upper": (3, 2, 1),
        }  # fmt: skip


def overflow_second_column(b: Bench, windows: Windows) -> None:
    """The engine's second value ahead is infinite after these windows."""

    def change(windows_BTF: Windows, predictions: Windows) -> Windows:
        predictions = predictions.copy()
        predictions[(windows_BTF[:, None] == windows[None]).all(axis=(2, 3)).any(axis=1), 1] = np.inf
        return predictions

    b.engine.change = change


async def test_a_value_that_nobody_asked_for_may_be_what_it_likes(generator: np.random.Generator) -> None:
    async with bench(direct_horizon=2) as b:
        windows, others = random_windows(generator, 4), random_windows(generator, 4)
        overflow_second_column(b, windows[2:3])
        tasks = [b.call(windows, horizon=1), b.call(windows, horizon=2), b.call(others, horizon=2)]
        expected = slid(windows, 1, num_ahead=2)
        np.testing.assert_array_equal((await within_limit(tasks[0])).predictions_NH, expected)
        with pytest.raises(NotFinite, match="window 2 "):
            await within_limit(tasks[1])
        np.testing.assert_array_equal((await within_limit(tasks[2])).predictions_NH, slid(others, 2, num_ahead=2))


@pytest.mark.parametrize("end", ["lower", "upper"])
async def test_an_end_that_is_not_finite_fails_who_asked_for_it(generator: np.random.Generator, end: str) -> None:
    async with bench(num_levels=2) as b:
        run = b.batcher._run

        def spoilt(inputs: dict[str, Any]) -> dict[str, Any]:
            outputs = run(inputs)
            outputs[end][1, 0, 1] = np.nan
            return outputs

        b.batcher._run = spoilt
        windows = random_windows(generator, 2)
        tasks = [b.call(windows, intervals=True), b.call(windows)]
        with pytest.raises(NotFinite, match="window 1 "):
            await within_limit(tasks[0])
        np.testing.assert_array_equal((await within_limit(tasks[1])).predictions_NH, slid(windows, 1))


async def test_an_end_that_nobody_asked_for_may_be_what_it_likes(generator: np.random.Generator) -> None:
    async with bench(direct_horizon=2, num_levels=1) as b:
        run = b.batcher._run

        def spoilt(inputs: dict[str, Any]) -> dict[str, Any]:
            outputs = run(inputs)
            outputs["upper"][:, 1] = np.inf
            return outputs

        b.batcher._run = spoilt
        windows = random_windows(generator, 2)
        answer = await within_limit(b.call(windows, horizon=1, intervals=True))
        assert answer.ends is not None
        np.testing.assert_array_equal(answer.ends.upper, ends_of(slid(windows, 1, num_ahead=2), 1)[1])


@pytest.mark.parametrize("name", ["next", "lower", "upper"])
@pytest.mark.parametrize(
    "spoil", [lambda array: array[:-1], lambda array: array[:, :1], lambda array: array[..., None]]
)
async def test_an_output_of_another_shape_fails_the_run(generator: np.random.Generator, name: str, spoil: Any) -> None:
    async with bench(direct_horizon=2, num_levels=2) as b:
        run = b.batcher._run
        b.batcher._run = lambda inputs: (outputs := run(inputs)) | {name: spoil(outputs[name])}
        with pytest.raises(RunFailed):
            await within_limit(b.call(random_windows(generator, 3), intervals=True))
        b.batcher._run = run
        windows = random_windows(generator, 3)
        answer = await within_limit(b.call(windows, horizon=2, intervals=True))
        np.testing.assert_array_equal(answer.predictions_NH, slid(windows, 2, num_ahead=2))


async def test_one_caller_leaves_between_two_runs(generator: np.random.Generator) -> None:
    async with bench(direct_horizon=2) as b:
        b.engine.go.clear()
        sent = [(random_windows(generator, 1), random_context(generator, 1)) for _ in range(5)]
        tasks = [b.call(windows, horizon=4, **context) for windows, context in sent]
        await b.engine.running()
        tasks[2].cancel()
        await asyncio.wait([tasks[2]])
        b.engine.go.set()
        for k, (windows, context) in enumerate(sent):
            if k != 2:
                expected = slid(windows, 4, **context, num_ahead=2)
                np.testing.assert_array_equal((await within_limit(tasks[k])).predictions_NH, expected)
        assert b.engine.batches == [5, 4]
