"""Whatever bytes arrive, each call has one clear status, and the server lives on."""

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nextvalue.v1 import nextvalue_pb2 as pb
from server.pb import open_inference_pb2 as oip
from tests.server.harness import Running, infer_request, predict_request

pytestmark = pytest.mark.asyncio(loop_scope="module")

INFERENCE = "/inference.GRPCInferenceService/"
# What a caller may have done wrong; load and unload are switched off.
CLEAR = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
}
UNARY = [f"{INFERENCE}{method.name}" for method in oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods]
UNARY.remove(f"{INFERENCE}ModelStreamInfer")
UNARY += [f"/nextvalue.v1.NextValue/{method.name}" for method in pb.DESCRIPTOR.services_by_name["NextValue"].methods]

WINDOWS = np.arange(10, dtype=np.float32).reshape(2, 5, 1)
GOOD = [
    infer_request("demo", WINDOWS).SerializeToString(),
    infer_request("demo", WINDOWS, raw=False, horizon=3, version="1").SerializeToString(),
    predict_request("demo", WINDOWS).SerializeToString(),
]

TEXT = st.sampled_from(
    ["demo", "demand", "window", "next", "series", "FP32", "INT64", "BYTES", "1", "", "é\n"]
) | st.text(max_size=5)
NUMBERS = st.integers(-1, 6) | st.integers(-(2**63), 2**63 - 1)
PARAMETERS = st.dictionaries(
    st.sampled_from(["horizon", "binary_data", "classification", "shared_memory_region", "priority"]) | TEXT,
    st.builds(oip.InferParameter)
    | st.builds(oip.InferParameter, int64_param=NUMBERS)
    | st.builds(oip.InferParameter, string_param=TEXT)
    | st.builds(oip.InferParameter, bool_param=st.booleans())
    | st.builds(oip.InferParameter, double_param=st.floats())
    | st.builds(oip.InferParameter, uint64_param=st.integers(0, 2**64 - 1)),
    max_size=2,
)
CONTENTS = st.builds(
    oip.InferTensorContents,
    fp32_contents=st.lists(st.floats(width=32), max_size=6) | st.just([1.0] * 5),
    int64_contents=st.lists(NUMBERS, max_size=3),
    bytes_contents=st.lists(st.binary(max_size=4), max_size=2),
)
TENSORS = st.builds(
    oip.ModelInferRequest.InferInputTensor,
    name=st.just("window") | TEXT,
    datatype=st.just("FP32") | TEXT,
    shape=st.just([1, 5, 1]) | st.lists(NUMBERS, max_size=4),
    parameters=PARAMETERS,
    contents=st.none() | CONTENTS,
)
OUTPUTS = st.builds(oip.ModelInferRequest.InferRequestedOutputTensor, name=TEXT, parameters=PARAMETERS)
REQUESTS = st.builds(
    oip.ModelInferRequest,
    model_name=st.just("demo") | TEXT,
    model_version=st.just("") | TEXT,
    id=TEXT,
    parameters=PARAMETERS,
    inputs=st.lists(TENSORS, max_size=3),
    outputs=st.lists(OUTPUTS, max_size=2),
    raw_input_contents=st.just([]) | st.lists(st.just(b"\0" * 20) | st.binary(max_size=24), max_size=3),
)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A good request, some of its bytes changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


ANYTHING = st.binary(max_size=80) | spoiled() | st.builds(oip.ModelInferRequest.SerializeToString, REQUESTS)
relaxed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


async def status_of(running: Running, method: str, data: bytes) -> grpc.StatusCode:
    """What the call ends with; a refusal says why."""
    unary: Any = running.channel.unary_unary(method)
    call = unary(data)
    code: grpc.StatusCode = await call.code()
    if code is not grpc.StatusCode.OK:
        assert await call.details()
    return code


@pytest.mark.parametrize("method", UNARY)
@settings(relaxed, max_examples=40)
@given(data=ANYTHING)
async def test_any_bytes_to_any_call(running: Running, method: str, data: bytes) -> None:
    assert await status_of(running, method, data) in CLEAR


@relaxed
@given(request_message=REQUESTS)
async def test_any_request(running: Running, request_message: oip.ModelInferRequest) -> None:
    code = await status_of(running, f"{INFERENCE}ModelInfer", request_message.SerializeToString())
    assert code in CLEAR - {grpc.StatusCode.UNIMPLEMENTED}


@relaxed
@given(sent=st.lists(ANYTHING, max_size=5))
async def test_any_stream(running: Running, sent: Sequence[bytes]) -> None:
    """As many responses as requests, each an answer or a reason, and an end without a fault."""
    stream: Any = running.channel.stream_stream(
        f"{INFERENCE}ModelStreamInfer", response_deserializer=oip.ModelStreamInferResponse.FromString
    )
    call = stream(iter([*sent, GOOD[0]]))
    responses = [response async for response in call]
    assert len(responses) == len(sent) + 1
    for response in responses:
        assert bool(response.error_message) != bool(response.infer_response.outputs)
        assert "internal error" not in response.error_message
    assert responses[-1].error_message == ""
    assert await call.code() is grpc.StatusCode.OK


async def test_the_faults_were_all_told_from_ours(running: Running) -> None:
    """Last: nothing above was INTERNAL on the page either."""
    families = {metric.name: metric for metric in running.server.metrics.registry.collect()}
    codes = {sample.labels["code"] for sample in families["nextvalue_requests"].samples}
    assert "INVALID_ARGUMENT" in codes
    assert not codes & {"INTERNAL", "UNKNOWN"}
