"""Times, series, several values ahead and intervals through a real server: the numbers the equations give."""

import asyncio
import dataclasses
from typing import Any

import numpy as np
import pytest

from export.artifact import golden
from export.artifact.folder import GOLDEN
from tests.server.harness import Running, eventually, infer_outputs, infer_request, predict_request, to_numpy
from tests.server.oracle import STRANGER, Call, Oracle

pytestmark = pytest.mark.asyncio(loop_scope="module")

SURE = ("demand", "windowed")


def unknown(running: Running, model: str = "demand") -> float:
    return running.sample("nextvalue_unknown_series_total", model=model, version="1")


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("name", SURE)
async def test_intervals_come_with_the_predictions(
    running: Running, oracles: dict[str, Oracle], generator: np.random.Generator, name: str, raw: bool
) -> None:
    oracle = oracles[name]
    for horizon in range(1, oracle.direct_horizon + 1):
        call = oracle.random_call(generator, 7, horizon)
        reply = await running.next_value.Predict(
            predict_request(name, call.windows, **call.options, levels=[], raw=raw)
        )
        expected = oracle.expect(call)
        oracle.assert_right(to_numpy(reply.predictions), expected)
        oracle.assert_ends_right(to_numpy(reply.lower), to_numpy(reply.upper), expected)
        assert list(reply.levels) == oracle.levels
        assert all(bool(array.raw_values) is raw for array in (reply.predictions, reply.lower, reply.upper))


@pytest.mark.parametrize(("levels", "places"), [([0.5], [0]), ([0.9], [1]), ([0.9, 0.5], [1, 0])])
async def test_levels_come_in_the_order_asked_for(
    running: Running, demand: Oracle, generator: np.random.Generator, levels: list[float], places: list[int]
) -> None:
    call = demand.random_call(generator, 5, 3)
    reply = await running.next_value.Predict(predict_request("demand", call.windows, **call.options, levels=levels))
    demand.assert_ends_right(to_numpy(reply.lower), to_numpy(reply.upper), demand.expect(call), places)
    assert list(reply.levels) == levels


async def test_no_intervals_unless_asked_for(
    running: Running, windowed: Oracle, generator: np.random.Generator
) -> None:
    call = windowed.random_call(generator, 2)
    reply = await running.next_value.Predict(predict_request("windowed", call.windows))
    assert not reply.HasField("lower")
    assert not reply.HasField("upper")
    assert not reply.levels


@pytest.mark.parametrize("horizon", [1, 2, 3, 4, 6, 7, 20])
@pytest.mark.parametrize("name", SURE)
async def test_a_horizon_takes_as_many_runs_as_it_needs(
    running: Running, oracles: dict[str, Oracle], generator: np.random.Generator, name: str, horizon: int
) -> None:
    oracle = oracles[name]
    call = oracle.random_call(generator, 4, horizon)
    runs = running.sample("nextvalue_batch_windows_count", model=name)
    predictions = running.sample("nextvalue_predictions_total", model=name, version="1")
    oracle.assert_right(await running.predict(name, call.windows, **call.options), oracle.expect(call))
    assert running.sample("nextvalue_batch_windows_count", model=name) - runs == -(-horizon // oracle.direct_horizon)
    assert running.sample("nextvalue_predictions_total", model=name, version="1") - predictions == 4 * horizon


async def test_what_goes_with_a_window_matters(
    running: Running, demand: Oracle, generator: np.random.Generator
) -> None:
    """Another series, other times or another future: another prediction, and the right one."""
    call = demand.random_call(generator, 1, 5)
    assert call.time_seconds is not None
    assert call.future is not None
    changes: list[dict[str, Any]] = [
        {"series": ["shop-a"]},
        {"series": ["shop-b"]},
        {"series": ["shop-a"], "time_seconds": call.time_seconds + 40_000},
        {"series": ["shop-a"], "future": call.future + 1},
    ]
    answers = []
    for change in changes:
        changed = dataclasses.replace(call, **change)
        found = await running.predict("demand", changed.windows, **changed.options)
        demand.assert_right(found, demand.expect(changed))
        answers.append(found[0])
    for k, answer in enumerate(answers[1:3]):
        assert (answer != answers[0]).all(), k
    # What comes after the window is seen from the second run on.
    assert (answers[3][:3] == answers[0][:3]).all()
    assert (answers[3][3:] != answers[0][3:]).all()


async def test_unknown_series_get_the_default_and_are_counted(
    running: Running, demand: Oracle, generator: np.random.Generator
) -> None:
    call = demand.random_call(generator, 4)
    series = [STRANGER, "shop-a", "", "SHOP-A"]
    call = Call(windows=call.windows, time_seconds=call.time_seconds, series=series)
    before = unknown(running)
    reply = await running.next_value.Predict(predict_request("demand", call.windows, **call.options))
    demand.assert_right(to_numpy(reply.predictions), demand.expect(call))
    assert reply.num_unknown_series == 3
    assert unknown(running) == before + 3
    known = Call(windows=call.windows, time_seconds=call.time_seconds, series=["shop-b"] * 4)
    reply = await running.next_value.Predict(predict_request("demand", known.windows, **known.options))
    assert reply.num_unknown_series == 0
    assert unknown(running) == before + 3


async def test_the_family_is_born_at_0_for_models_that_know_series(running: Running) -> None:
    registry = running.server.metrics.registry
    for name, there in (("demand", True), ("windowed", False), ("demo", False)):
        value = registry.get_sample_value("nextvalue_unknown_series_total", {"model": name, "version": "1"})
        assert (value is not None) is there


async def test_mixed_calls_in_one_batch(
    running: Running, oracles: dict[str, Oracle], generator: np.random.Generator
) -> None:
    """Held back until all are queued: sizes, horizons, series, times and intervals of every kind in the same runs."""
    for name in SURE:
        oracle = oracles[name]
        calls = [oracle.random_call(generator, *generator.integers(1, [20, 8]).tolist()) for _ in range(60)]
        with running.held(name) as held:
            tasks = []
            for k, call in enumerate(calls):
                levels: list[float] | None = [] if call.horizon <= oracle.direct_horizon and k % 2 else None
                request = predict_request(name, call.windows, **call.options, levels=levels, raw=k % 3 > 0)
                tasks.append(asyncio.ensure_future(running.next_value.Predict(request)))
                if not k:
                    # Otherwise all may come in one turn of the loop, and most of them be in its run.
                    await eventually(lambda held=held: held.batches, "a run")  # type: ignore[misc]
            await eventually(lambda name=name: running.sample("nextvalue_queue_windows", model=name) > 200, "a queue")  # type: ignore[misc]
            held.release.set()
            for task, call in zip(tasks, calls, strict=True):
                reply, expected = await task, oracle.expect(call)
                oracle.assert_right(to_numpy(reply.predictions), expected)
                if reply.HasField("lower"):
                    oracle.assert_ends_right(to_numpy(reply.lower), to_numpy(reply.upper), expected)
            assert max(held.batches) > 100, "nobody shared a run"
            num_runs = [len(call.windows) * -(-call.horizon // oracle.direct_horizon) for call in calls]
            assert sum(held.batches) == sum(num_runs)


# ---- the Open Inference Protocol ----


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("name", SURE)
async def test_golden_inputs_give_golden_outputs(
    running: Running, oracles: dict[str, Oracle], name: str, raw: bool
) -> None:
    """Without parameters: every output of the model, in the shapes that the metadata says."""
    oracle = oracles[name]
    case = golden.decode(oracle.artifact.read(GOLDEN), oracle.manifest)["window"]
    inputs: dict[str, Any] = dict(case.inputs)
    windows = inputs.pop("window")
    found = infer_outputs(await running.inference.ModelInfer(infer_request(name, windows, raw=raw, **inputs)))
    assert list(found) == ["next", "lower", "upper"]
    for output, array in found.items():
        oracle._assert_near(array, case.outputs[output], case.outputs["unit"], 1)


@pytest.mark.parametrize("outputs", [["upper"], ["lower", "next"], ["next"], ["upper", "upper", "lower"]])
async def test_requested_outputs_are_honoured(
    running: Running, windowed: Oracle, generator: np.random.Generator, outputs: list[str]
) -> None:
    call = windowed.random_call(generator, 3, 2)
    request = infer_request("windowed", call.windows)
    for output in outputs:
        request.outputs.add(name=output)
    found = infer_outputs(await running.inference.ModelInfer(request))
    assert list(found) == list(dict.fromkeys(outputs))
    expected = windowed.expect(call)
    for output, array in found.items():
        windowed._assert_near(array, getattr(expected, output), expected.unit, 1)


@pytest.mark.parametrize("horizon", [1, 2, 3, 7])
async def test_beyond_the_direct_horizon_there_is_only_next(
    running: Running, windowed: Oracle, generator: np.random.Generator, horizon: int
) -> None:
    call = windowed.random_call(generator, 3, horizon)
    reply = await running.inference.ModelInfer(infer_request("windowed", call.windows, horizon=horizon))
    found = infer_outputs(reply)
    assert list(found) == (["next", "lower", "upper"] if horizon <= 2 else ["next"])
    windowed.assert_right(found["next"], windowed.expect(call))
    if horizon <= 2:
        windowed.assert_ends_right(found["lower"], found["upper"], windowed.expect(call))


async def test_series_go_by_number(running: Running, demand: Oracle, generator: np.random.Generator) -> None:
    call = demand.random_call(generator, 6, 5)
    assert call.series is not None
    assert call.time_seconds is not None
    assert call.future is not None
    numbers = demand.numbers(call.series)
    numbers[numbers == -1] = 2**63 - 1  # whatever is not in the table is unknown
    before = unknown(running)
    request = infer_request(
        "demand", call.windows, horizon=5, time_seconds=call.time_seconds, series=numbers, future=call.future
    )
    found = infer_outputs(await running.inference.ModelInfer(request))
    demand.assert_right(found["next"], demand.expect(call))
    assert unknown(running) - before == sum(name == STRANGER for name in call.series)


async def test_series_go_by_id(running: Running, demand: Oracle, generator: np.random.Generator) -> None:
    """BYTES, as text or raw: the same answers as by number, strangers counted."""
    call = demand.random_call(generator, 6, 5)
    assert call.series is not None
    assert call.time_seconds is not None
    assert call.future is not None
    before = unknown(running)
    for raw in (True, False):
        request = infer_request(
            "demand",
            call.windows,
            horizon=5,
            raw=raw,
            time_seconds=call.time_seconds,
            series=demand.numbers(call.series),
            future=call.future,
        )
        (place,) = (k for k, tensor in enumerate(request.inputs) if tensor.name == "series")
        request.inputs[place].datatype = "BYTES"
        ids = [name.encode() for name in call.series]
        if raw:
            request.raw_input_contents[place] = b"".join(len(each).to_bytes(4, "little") + each for each in ids)
        else:
            request.inputs[place].contents.Clear()
            request.inputs[place].contents.bytes_contents.extend(ids)
        found = infer_outputs(await running.inference.ModelInfer(request))
        demand.assert_right(found["next"], demand.expect(call))
    assert unknown(running) - before == 2 * sum(name == STRANGER for name in call.series)
