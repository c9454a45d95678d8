"""A slow or broken engine: what is shed, what is late, who leaves, and what they are told."""

import asyncio
import logging

import grpc
import numpy as np
import pytest

from server.tensors import Tensors
from server.transport.status import PUSHBACK
from tests.server.harness import (
    LIMIT_SECONDS,
    FailingSession,
    Running,
    StandIn,
    eventually,
    infer_request,
    predict_request,
    refusal,
    serving,
)
from tests.server.oracle import Oracle

pytestmark = pytest.mark.asyncio(loop_scope="module")


def queued(running: Running) -> float:
    return running.sample("nextvalue_queue_windows", model="demo")


async def test_resource_exhausted(demo: Oracle, generator: np.random.Generator) -> None:
    async with serving(demo.artifact.folder.parents[1], max_queue_windows=8) as running:
        windows = [demo.random_windows(generator, size) for size in (1, 8)]
        with running.held("demo") as held:
            first = asyncio.create_task(running.predict("demo", windows[0]))
            await eventually(lambda: held.batches, "a run")
            second = asyncio.create_task(running.predict("demo", windows[1]))
            await eventually(lambda: queued(running) == 8, "a full queue")
            for call in (
                running.next_value.Predict(predict_request("demo", windows[0])),
                running.inference.ModelInfer(infer_request("demo", windows[0])),
            ):
                refused = await refusal(call)
                assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
                assert "8 windows wait, 1 more would pass the limit of 8" in refused.details
                assert int(refused.trailers[PUSHBACK]) >= 1
        assert running.sample("nextvalue_rejected_total", model="demo", reason="queue_full") == 2
        assert running.requests("Predict", "RESOURCE_EXHAUSTED", "demo", "1") == 1
        assert running.requests("ModelInfer", "RESOURCE_EXHAUSTED", "demo", "1") == 1
        demo.assert_right(await first, demo.predict(windows[0]))
        demo.assert_right(await second, demo.predict(windows[1]))


async def test_deadline_exceeded_while_queued(running: Running, demo: Oracle, generator: np.random.Generator) -> None:
    windows = demo.random_windows(generator, 2)
    with running.held("demo") as held:
        first = asyncio.create_task(running.predict("demo", windows[:1]))
        await eventually(lambda: held.batches, "a run")
        refused = await refusal(running.predict("demo", windows, timeout_seconds=0.1))
        assert refused.code == grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(
            lambda: running.requests("Predict", "DEADLINE_EXCEEDED", "demo", "1") == 1, "the server to notice"
        )
    demo.assert_right(await first, demo.predict(windows[:1]))
    demo.assert_right(await running.predict("demo", windows[1:]), demo.predict(windows[1:]))
    assert held.batches == [1], "a run was spent on the one that was late"
    assert running.sample("nextvalue_rejected_total", model="demo", reason="deadline") == 1
    assert queued(running) == 0


@pytest.mark.parametrize("timeout_seconds", [None, LIMIT_SECONDS])
async def test_cancelled(
    running: Running, demo: Oracle, generator: np.random.Generator, timeout_seconds: float | None
) -> None:
    """Who leaves is dropped from the queue, and told from one whose deadline passed; the others are answered."""
    windows = demo.random_windows(generator, 3)
    before = running.requests("Predict", "CANCELLED", "demo", "1")
    with running.held("demo") as held:
        first = asyncio.create_task(running.predict("demo", windows[:1]))
        await eventually(lambda: held.batches, "a run")
        leaver = running.next_value.Predict(predict_request("demo", windows[1:2]), timeout=timeout_seconds)
        stays = asyncio.create_task(running.predict("demo", windows[2:]))
        await eventually(lambda: queued(running) == 2, "two in the queue")
        leaver.cancel()
        await eventually(lambda: running.requests("Predict", "CANCELLED", "demo", "1") > before, "the server to notice")
        assert await leaver.code() == grpc.StatusCode.CANCELLED
        held.release.set()
        demo.assert_right(await first, demo.predict(windows[:1]))
        demo.assert_right(await stays, demo.predict(windows[2:]))
        assert held.batches == [1, 1], "a run was spent on the one that left"


async def test_internal(
    running: Running, demo: Oracle, generator: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    windows = demo.random_windows(generator, 2)
    before = running.requests("Predict", "INTERNAL", "demo", "1")
    engine = running.engine("demo")
    good = engine.sessions["window"]
    engine.sessions["window"] = FailingSession(good)
    try:
        refused = await refusal(running.predict("demo", windows))
    finally:
        engine.sessions["window"] = good
    assert refused.code == grpc.StatusCode.INTERNAL
    assert refused.details == "the engine failed; the server's log has the detail"
    assert running.requests("Predict", "INTERNAL", "demo", "1") == before + 1
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert any(record.exc_info and "the secret detail" in str(record.exc_info[1]) for record in errors)
    demo.assert_right(await running.predict("demo", windows), demo.predict(windows))


async def test_a_bug_above_the_engine_is_internal_too(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(model: str, version: str) -> None:
        raise ZeroDivisionError("the secret detail")

    before = running.requests("Predict", "INTERNAL", "demo")
    monkeypatch.setattr(running.server.predictor, "resolve", broken)
    refused = await refusal(running.predict("demo", np.zeros((1, 5, 1), np.float32)))
    assert (refused.code, refused.details) == (
        grpc.StatusCode.INTERNAL,
        "internal error; the server's log has the detail",
    )
    assert running.requests("Predict", "INTERNAL", "demo") == before + 1
    assert "the secret detail" in caplog.text


class OverflowingSession(StandIn):
    """Windows that end above a bound overflow, as they may in a model's own arithmetic."""

    def run(self, inputs: Tensors) -> Tensors:
        return {"next": np.where(inputs["window"][:, -1] > 1e6, np.float32("inf"), super().run(inputs)["next"])}


@pytest.mark.parametrize(
    ("large", "code", "details"),
    [
        (3e38, grpc.StatusCode.INVALID_ARGUMENT, "windows[1] is as large as 3e+38; its prediction overflows float32"),
        (1e7, grpc.StatusCode.INTERNAL, "the prediction for window 1 is not a finite number"),
    ],
)
async def test_a_prediction_that_is_no_number(
    *,
    running: Running,
    demo: Oracle,
    generator: np.random.Generator,
    large: float,
    code: grpc.StatusCode,
    details: str,
) -> None:
    """The caller's fault where its values are extreme, else ours; a neighbour in the same run is answered."""
    windows = demo.random_windows(generator, 4)
    windows[1, -1] = large
    before = running.requests("Predict", code.name, "demo", "1")
    engine = running.engine("demo")
    good = engine.sessions["window"]
    engine.sessions["window"] = OverflowingSession(good)
    try:
        neighbour = asyncio.create_task(running.predict("demo", windows[2:]))
        refused = await refusal(running.predict("demo", windows[:2]))
        demo.assert_right(await neighbour, demo.predict(windows[2:]))
    finally:
        engine.sessions["window"] = good
    assert (refused.code, refused.details) == (code, details)
    assert running.requests("Predict", code.name, "demo", "1") == before + 1


async def test_a_slow_model_does_not_hold_up_another(
    running: Running, demo: Oracle, covariates: Oracle, generator: np.random.Generator
) -> None:
    with running.held("demo") as held:
        windows = demo.random_windows(generator, 1)
        slow = asyncio.create_task(running.predict("demo", windows))
        await eventually(lambda: held.batches, "a run")
        others = covariates.random_windows(generator, 4)
        covariates.assert_right(await running.predict("covariates", others), covariates.predict(others))
        assert not slow.done()
        held.release.set()
        demo.assert_right(await slow, demo.predict(windows))
