"""Wrong times, series, levels and horizons: each has its message, naming field, value and limit, and costs no run."""

from typing import Any

import grpc
import numpy as np
import pytest

from nextvalue.v1 import nextvalue_pb2 as pb
from server.pb import open_inference_pb2 as oip
from tests.server.conftest import MODELS
from tests.server.harness import Running, infer_request, predict_request, refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID = grpc.StatusCode.INVALID_ARGUMENT
TIMES = np.tile(np.arange(6) * 3600, (2, 1))
DEMAND: dict[str, Any] = {
    "windows": np.ones((2, 6, 2), np.float32),
    "time_seconds": TIMES,
    "series": ["shop-a", "shop-b"],
}
DEMO, WINDOWED = np.zeros((2, 5, 1), np.float32), np.ones((2, 5, 1), np.float32)


def demand(**changes: Any) -> pb.PredictRequest:
    return predict_request("demand", **{**DEMAND, **changes})


def short_times() -> pb.PredictRequest:
    request = demand()
    request.time_seconds.raw_values = request.time_seconds.raw_values[:-4]
    return request


def times_twice() -> pb.PredictRequest:
    request = demand()
    request.time_seconds.values.append(1)
    return request


PREDICT = {
    "no times": (
        demand(time_seconds=None),
        "time_seconds is missing; the model has a calendar (day, week) and needs the times as [2, 6]",
    ),
    "another T": (demand(time_seconds=TIMES[:, :5]), "time_seconds.shape is [2, 5]; this call needs [2, 6]"),
    "another N": (demand(time_seconds=TIMES[:1]), "time_seconds.shape is [1, 6]; this call needs [2, 6]"),
    "backwards": (
        demand(time_seconds=TIMES[:, ::-1]),
        "time_seconds[0, 1] is 14400; it must be above the time before it, 18000",
    ),
    "milliseconds": (
        demand(time_seconds=TIMES + 1_700_000_000_000),
        "time_seconds[0, 0] is 1700000000000; seconds since 1970 are from -62135596800 to 253402300799",
    ),
    "bytes of times": (short_times(), "time_seconds.raw_values is 92 bytes; shape [2, 6] of INT64 has 96 bytes"),
    "times twice": (times_twice(), "time_seconds is given as values and as raw_values"),
    "times in vain": (
        predict_request("windowed", WINDOWED, time_seconds=TIMES[:, :5]),
        "time_seconds.shape is [2, 5]; the model has no calendar and takes none",
    ),
    "no series": (
        demand(series=[]),
        "series is missing; the model is scaled by series and needs that of each of 2 windows",
    ),
    "too few series": (demand(series=["shop-a"]), "series is given for 1 windows; this call has 2"),
    "series in vain": (
        predict_request("windowed", WINDOWED, series=["a", "b"]),
        "series is given for 2 windows; the model takes none",
    ),
    "intervals in vain": (predict_request("demo", DEMO, levels=[]), "intervals is asked for; the model has none"),
    "no such level": (demand(levels=[0.5, 0.8]), "intervals.levels[1] is 0.8; the model has 0.5, 0.9"),
    "too many levels": (
        predict_request("windowed", WINDOWED, levels=[0.9, 0.9]),
        "intervals.levels is 2 levels; the model has 1",
    ),
    "intervals beyond": (
        predict_request("windowed", WINDOWED, horizon=3, levels=[]),
        "horizon is 3; with intervals it must be from 1 to 2, what one run gives",
    ),
    "no future": (demand(horizon=4), "future is missing; a horizon of 4 needs the covariates (price) as [2, 3, 1]"),
    "future in vain": (
        demand(horizon=3, future=np.ones((2, 2, 1), np.float32)),
        "future.shape is [2, 2, 1]; it is taken only with covariates and a horizon above 3",
    ),
}


async def expect_refused(running: Running, rpc: str, request: Any, said: str) -> None:
    """The status, the message, the count; and no run."""

    def counts() -> list[float]:
        return [running.sample("nextvalue_batch_windows_count", model=name) for name in MODELS]

    model = request.model if rpc == "Predict" else request.model_name
    runs, before = counts(), running.requests(rpc, "INVALID_ARGUMENT", model, "1")
    service = running.next_value if rpc == "Predict" else running.inference
    refused = await refusal(getattr(service, rpc)(request))
    assert (refused.code, said in refused.details) == (INVALID, True), refused.details
    assert running.requests(rpc, "INVALID_ARGUMENT", model, "1") == before + 1
    assert counts() == runs


@pytest.mark.parametrize("kind", PREDICT)
async def test_predict_refuses(running: Running, kind: str) -> None:
    await expect_refused(running, "Predict", *PREDICT[kind])


@pytest.mark.parametrize("raw", [True, False])
async def test_what_is_refused_above_is_answered_when_put_right(running: Running, raw: bool) -> None:
    for request in (
        demand(raw=raw),
        demand(raw=raw, levels=[0.5, 0.9], horizon=3),
        demand(raw=raw, horizon=4, future=np.ones((2, 3, 1), np.float32)),
        predict_request("windowed", WINDOWED, horizon=2, levels=[0.9], raw=raw),
    ):
        reply = await running.next_value.Predict(request)
        assert list(reply.predictions.shape) == [2, request.horizon or 1]


def demand_infer(**changes: Any) -> oip.ModelInferRequest:
    inputs = {**DEMAND, "series": np.array([[0], [1]]), **changes}
    return infer_request("demand", **{name: array for name, array in inputs.items() if array is not None})


def asking_for(output: str, request: oip.ModelInferRequest) -> oip.ModelInferRequest:
    request.outputs.add(name=output)
    return request


INFER = {
    "no times": (
        demand_infer(time_seconds=None),
        "inputs[time_seconds] is missing; the model has a calendar (day, week)",
    ),
    "type of times": (
        demand_infer(time_seconds=TIMES.astype(np.float32)),
        "inputs[time_seconds].datatype is 'FP32'; it must be 'INT64'",
    ),
    "backwards": (
        demand_infer(time_seconds=TIMES[:, ::-1]),
        "inputs[time_seconds][0, 1] is 14400; it must be above the time before it, 18000",
    ),
    "no series": (demand_infer(series=None), "inputs[series] is missing; the model is scaled by series"),
    "shape of series": (
        demand_infer(series=np.array([0, 1])),
        "inputs[series].shape is [2]; this call needs [2, 1]",
    ),
    "too many series": (
        demand_infer(series=np.array([[0], [1], [2]])),
        "inputs[series] is given for 3 windows; this call has 2",
    ),
    "series in vain": (
        infer_request("demo", DEMO, series=np.array([[0], [1]])),
        "inputs[series] is given for 2 windows; the model takes none",
    ),
    "lower of none": (
        asking_for("lower", infer_request("demo", DEMO)),
        "outputs[].name is 'lower'; the model's output is 'next'",
    ),
    "no such output": (
        asking_for("unit", infer_request("windowed", WINDOWED)),
        "outputs[].name is 'unit'; the model's outputs are 'next', 'lower', 'upper'",
    ),
    "upper beyond": (
        asking_for("upper", infer_request("windowed", WINDOWED, horizon=3)),
        "parameters[horizon] is 3; with intervals it must be from 1 to 2, what one run gives",
    ),
}


@pytest.mark.parametrize("kind", INFER)
async def test_model_infer_refuses(running: Running, kind: str) -> None:
    await expect_refused(running, "ModelInfer", *INFER[kind])
