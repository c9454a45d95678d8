"""Running totals: of a plain object, and as ModelStatistics gives them."""

import time
from pathlib import Path

import grpc
import numpy as np

from server.pb import open_inference_pb2 as oip
from server.statistics import Duration, Statistics
from tests.server.harness import Running, infer_request, predict_request, refusal, serving
from tests.server.oracle import Oracle


def test_nothing_yet() -> None:
    assert Statistics() == Statistics(Duration(), Duration(), Duration(), Duration(), {}, 0, 0.0)


def test_totals() -> None:
    statistics = Statistics()
    statistics.ran(8, 0.25)
    statistics.ran(2, 0.125)
    statistics.ran(8, 0.25)
    statistics.answered(10, queue_seconds=0.5, run_seconds=0.375)
    statistics.ended(1.0, ok=True, now=1000.0)
    statistics.ended(0.5, ok=False, now=2000.0)
    assert statistics.success == Duration(1, 1.0)
    assert statistics.fail == Duration(1, 0.5)
    assert statistics.queue == Duration(1, 0.5)
    assert statistics.run == Duration(1, 0.375)
    assert statistics.runs == {8: Duration(2, 0.5), 2: Duration(1, 0.125)}
    assert (statistics.num_runs, statistics.num_windows) == (3, 10)
    assert statistics.last_answer == 1000.0, "a failure is no inference"


async def statistics_of(running: Running, name: str = "", version: str = "") -> list[oip.ModelStatistics]:
    reply = await running.inference.ModelStatistics(oip.ModelStatisticsRequest(name=name, version=version))
    return list(reply.model_stats)


async def test_what_a_model_has_answered(models: Path, demo: Oracle) -> None:
    """Of both protocols' calls; failed ones beside."""
    windows = demo.random_windows(np.random.default_rng(2), 3)
    async with serving(models, max_batch_windows=2) as running:
        (before,) = await statistics_of(running, "demo")
        assert before == oip.ModelStatistics(name="demo", version="1", inference_stats=before.inference_stats), (
            "warming up is no inference"
        )
        assert before.inference_stats.success.count == 0
        started = time.time()
        await running.next_value.Predict(predict_request("demo", windows))
        await running.inference.ModelInfer(infer_request("demo", windows[:1], horizon=4))
        call = running.inference.ModelStreamInfer(iter([infer_request("demo", windows[:2])]))
        assert (await call.read()).error_message == ""
        assert await call.read() is grpc.aio.EOF
        await refusal(running.inference.ModelInfer(infer_request("demo", windows[:, :2])))
        (found,) = await statistics_of(running, "demo", "1")
        assert (found.name, found.version) == ("demo", "1")
        assert found.inference_count == 3 + 1 + 2
        # 3 windows in runs of 2 and 1, a horizon of 4 in one rollout, 2 windows in one.
        assert {each.batch_size: each.compute_infer.count for each in found.batch_stats} == {1: 2, 2: 2}
        assert found.execution_count == 4
        assert 1000 * (started - 1) <= found.last_inference <= 1000 * (time.time() + 1)
        stats = found.inference_stats
        assert (stats.success.count, stats.fail.count) == (3, 1)
        assert stats.queue.count == stats.compute_infer.count == stats.compute_input.count == 3
        assert (stats.compute_input.ns, stats.compute_output.ns) == (0, 0)
        assert stats.compute_infer.ns > 0
        assert stats.queue.ns + stats.compute_infer.ns <= stats.success.ns
        assert stats.compute_infer.ns == sum(each.compute_infer.ns for each in found.batch_stats), "nobody shared a run"
        page_runs = running.sample("nextvalue_phase_seconds_count", model="demo", phase="run")
        assert page_runs == found.execution_count, "the metrics page counts the same runs"


async def test_of_all_models(models: Path) -> None:
    async with serving(models) as running:
        assert [each.name for each in await statistics_of(running)] == [
            "covariates", "demand", "demo", "last", "windowed",
        ]  # fmt: skip
        for name, version, code in (
            ("nobody", "", grpc.StatusCode.NOT_FOUND),
            ("demo", "2", grpc.StatusCode.NOT_FOUND),
            ("", "1", grpc.StatusCode.INVALID_ARGUMENT),
        ):
            assert (await refusal(statistics_of(running, name, version))).code == code
