"""Requests that are wrong: each kind has its status, a message naming field, value and limit, and its count."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from nextvalue.v1 import nextvalue_pb2 as pb
from server.pb import open_inference_pb2 as oip
from tests.server.harness import Running, float_array, infer_request, predict_request, refusal, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


def windows_of(array: NDArray[np.floating], horizon: int = 0) -> pb.PredictRequest:
    return predict_request("demo", array.astype(np.float32), horizon=horizon)


def with_value(value: float) -> pb.PredictRequest:
    windows = np.zeros((2, 5, 1))
    windows[1, 3, 0] = value
    return windows_of(windows)


def covariates_request(future: tuple[int, ...] | None, horizon: int) -> pb.PredictRequest:
    windows = np.ones((2, 4, 3), np.float32)
    array = None if future is None else np.ones(future, np.float32)
    return predict_request("covariates", windows, horizon=horizon, future=array)


def bad_future() -> pb.PredictRequest:
    request = covariates_request((2, 2, 2), 3)
    future = np.ones((2, 2, 2), np.float32)
    future[0, 1, 1] = np.inf
    request.future.CopyFrom(float_array(future))
    return request


def short_bytes() -> pb.PredictRequest:
    request = windows_of(np.zeros((2, 5, 1)))
    request.windows.raw_values = request.windows.raw_values[:-1]
    return request


def both_spellings() -> pb.PredictRequest:
    request = windows_of(np.zeros((2, 5, 1)))
    request.windows.values.append(1.0)
    return request


PREDICT = {
    "no windows": (pb.PredictRequest(model="demo"), "windows.shape is []"),
    "another T": (windows_of(np.zeros((2, 6))), "windows.shape is [2, 6]; the model takes [N, 5, 1]"),
    "another F": (windows_of(np.zeros((2, 5, 2))), "windows.shape is [2, 5, 2]; the model takes [N, 5, 1]"),
    "one dimension": (windows_of(np.zeros(5)), "windows.shape is [5]; the model takes [N, 5, 1]"),
    "N is 0": (windows_of(np.zeros((0, 5))), "windows.shape is [0, 5]; there must be at least one window"),
    "NaN": (with_value(np.nan), "windows[1, 3, 0] is nan; values must be finite"),
    "infinity": (with_value(-np.inf), "windows[1, 3, 0] is -inf; values must be finite"),
    "bytes": (short_bytes(), "windows.raw_values is 39 bytes; shape [2, 5, 1] of FP32 has 40 bytes"),
    "both": (both_spellings(), "windows is given as values and as raw_values"),
    "horizon below": (windows_of(np.zeros((2, 5)), -1), "horizon is -1; it must be from 1 to 1024"),
    "horizon above": (windows_of(np.zeros((2, 5)), 1025), "horizon is 1025; it must be from 1 to 1024"),
    "no future": (
        covariates_request(None, 3),
        "future is missing; a horizon of 3 needs the covariates (temperature, holiday) as [2, 2, 2]",
    ),
    "short future": (covariates_request((2, 1, 2), 3), "future.shape is [2, 1, 2]; this call needs [2, 2, 2]"),
    "future in vain": (covariates_request((2, 1, 2), 1), "future.shape is [2, 1, 2]; it is taken only with"),
    "infinite future": (bad_future(), "future[0, 1, 1] is inf; values must be finite"),
}


@pytest.mark.parametrize("kind", PREDICT)
async def test_predict_refuses(running: Running, kind: str) -> None:
    request, said = PREDICT[kind]
    before = running.requests("Predict", "INVALID_ARGUMENT", request.model, "1")
    refused = await refusal(running.next_value.Predict(request))
    assert (refused.code, said in refused.details) == (INVALID, True), refused.details
    assert running.requests("Predict", "INVALID_ARGUMENT", request.model, "1") == before + 1


def renamed(request: oip.ModelInferRequest) -> None:
    request.inputs[0].name = "input"


def retyped(request: oip.ModelInferRequest) -> None:
    request.inputs[0].datatype = "FP64"


def reshaped(request: oip.ModelInferRequest) -> None:
    request.inputs[0].shape[:] = [1, 10, 1]


def cut(request: oip.ModelInferRequest) -> None:
    request.raw_input_contents[0] = request.raw_input_contents[0][:-4]


def nan(request: oip.ModelInferRequest) -> None:
    request.raw_input_contents[0] = b"\xff" * 40


def no_batch(request: oip.ModelInferRequest) -> None:
    request.inputs[0].shape[0] = 0
    request.raw_input_contents[0] = b""


def far(request: oip.ModelInferRequest) -> None:
    request.parameters["horizon"].int64_param = 2000


def not_a_number(request: oip.ModelInferRequest) -> None:
    request.parameters["horizon"].string_param = "5"


def other_output(request: oip.ModelInferRequest) -> None:
    request.outputs.add(name="std")


INFER: dict[str, tuple[Callable[[oip.ModelInferRequest], None], str]] = {
    "name": (renamed, "inputs[0].name is 'input'; expected 'window'"),
    "dtype": (retyped, "inputs[window].datatype is 'FP64'; it must be 'FP32'"),
    "shape": (reshaped, "inputs[window].shape is [1, 10, 1]; the model takes [N, 5, 1]"),
    "bytes": (cut, "raw_input_contents[0] is 36 bytes; shape [2, 5, 1] of FP32 has 40 bytes"),
    "NaN": (nan, "inputs[window][0, 0, 0] is nan; values must be finite"),
    "B is 0": (no_batch, "inputs[window].shape is [0, 5, 1]; there must be at least one window"),
    "horizon": (far, "parameters[horizon] is 2000; it must be from 1 to 1024"),
    "horizon's type": (not_a_number, "parameters[horizon] is string_param; it must be an int64_param"),
    "output": (other_output, "outputs[].name is 'std'; the model's output is 'next'"),
}


@pytest.mark.parametrize("kind", INFER)
async def test_model_infer_refuses(running: Running, kind: str) -> None:
    spoil, said = INFER[kind]
    request = infer_request("demo", np.zeros((2, 5, 1), np.float32))
    spoil(request)
    before = running.requests("ModelInfer", "INVALID_ARGUMENT", "demo", "1")
    refused = await refusal(running.inference.ModelInfer(request))
    assert (refused.code, said in refused.details) == (INVALID, True), refused.details
    assert running.requests("ModelInfer", "INVALID_ARGUMENT", "demo", "1") == before + 1


@pytest.mark.parametrize("rpc", ["Predict", "ModelInfer", "GetModel", "ModelMetadata"])
async def test_no_such_model(running: Running, rpc: str) -> None:
    before = running.requests(rpc, "NOT_FOUND", "_unknown")
    refused = await refusal(ask_for(running, rpc, "nobody", ""))
    assert refused.code == NOT_FOUND
    assert refused.details == "model is 'nobody'; the repository has: covariates, demand, demo, last, windowed"
    assert running.requests(rpc, "NOT_FOUND", "_unknown") == before + 1
    assert running.requests(rpc, "NOT_FOUND", "nobody") == 0, "callers must not grow the metrics page"


@pytest.mark.parametrize("rpc", ["Predict", "ModelInfer", "ModelMetadata"])
@pytest.mark.parametrize("version", ["2", "01", "latest", "-1"])
async def test_no_such_version(running: Running, rpc: str, version: str) -> None:
    before = running.requests(rpc, "NOT_FOUND", "demo")
    refused = await refusal(ask_for(running, rpc, "demo", version))
    assert refused.code == NOT_FOUND
    assert refused.details == f"version is '{version}'; model 'demo' has versions: 1"
    assert running.requests(rpc, "NOT_FOUND", "demo") == before + 1


def ask_for(running: Running, rpc: str, model: str, version: str) -> Any:
    windows = np.zeros((1, 5, 1), np.float32)
    call: Any
    match rpc:
        case "Predict":
            call = running.next_value.Predict(predict_request(model, windows, version=version))
        case "ModelInfer":
            call = running.inference.ModelInfer(infer_request(model, windows, version=version))
        case "GetModel":
            call = running.next_value.GetModel(pb.GetModelRequest(model=model))
        case _:
            call = running.inference.ModelMetadata(oip.ModelMetadataRequest(name=model, version=version))
    return call


@pytest.mark.parametrize("rpc", ["Predict", "ModelInfer", "GetModel", "ModelMetadata"])
async def test_a_long_name_is_refused_as_what_it_is(running: Running, rpc: str) -> None:
    """Repeated whole, it would not fit into a trailer, and gRPC would make another status of it."""
    refused = await refusal(ask_for(running, rpc, "x" * 100_000, ""))
    assert refused.code == NOT_FOUND
    assert refused.details.startswith("model is 'xxx")
    assert len(refused.details) < 1000


async def test_long_texts_of_all_kinds(running: Running) -> None:
    request = infer_request("demo", np.zeros((2, 5, 1), np.float32))
    for change in ("name", "datatype"):
        spoilt = oip.ModelInferRequest()
        spoilt.CopyFrom(request)
        setattr(spoilt.inputs[0], change, "x" * 100_000)
        refused = await refusal(running.inference.ModelInfer(spoilt))
        assert (refused.code, len(refused.details) < 1000) == (INVALID, True)
    refused = await refusal(ask_for(running, "Predict", "demo", "9" * 100_000))
    assert (refused.code, len(refused.details) < 1000) == (NOT_FOUND, True)


async def test_a_reply_that_would_not_fit(models: Path) -> None:
    """Known before a run is spent on it."""
    async with serving(models, max_message_mib=1) as small:
        for num_windows, horizon, fits in ((1000, 261, True), (1000, 262, False), (300, 1000, False)):
            windows = np.zeros((num_windows, 5, 1), np.float32)
            call = small.next_value.Predict(predict_request("demo", windows, horizon=horizon))
            if fits:
                assert list((await call).predictions.shape) == [num_windows, horizon]
                continue
            runs = small.sample("nextvalue_batch_windows_count", model="demo")
            refused = await refusal(call)
            size = 4 * num_windows * horizon
            assert refused.code == INVALID
            assert (
                f"horizon is {horizon}; for {num_windows} windows the reply would have {size} bytes" in refused.details
            )
            assert small.sample("nextvalue_batch_windows_count", model="demo") == runs


@pytest.mark.parametrize(
    "method",
    [
        "/nextvalue.v1.NextValue/Track",
        "/inference.GRPCInferenceService/TraceSetting",
        "/no.such.Service/Call",
    ],
)
async def test_unknown_methods(running: Running, method: str) -> None:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = running.channel.unary_unary(method)
    refused = await refusal(call(b""))
    assert refused.code == grpc.StatusCode.UNIMPLEMENTED


async def test_refusals_cost_no_run(running: Running) -> None:
    before = running.sample("nextvalue_batch_windows_count", model="demo")
    for request, _ in PREDICT.values():
        await refusal(running.next_value.Predict(request))
    assert running.sample("nextvalue_batch_windows_count", model="demo") == before
