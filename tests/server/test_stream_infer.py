"""ModelStreamInfer on a running server: one response for each request, in order; errors stay in theirs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from server.pb import open_inference_pb2 as oip
from server.transport.streams import MAX_UNDER_WAY
from tests.server.harness import Running, eventually, infer_outputs, infer_request, refusal, serving
from tests.server.oracle import Oracle

pytestmark = pytest.mark.asyncio(loop_scope="module")

METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"


def numbered(request: oip.ModelInferRequest, request_id: str) -> oip.ModelInferRequest:
    request.id = request_id
    return request


async def streamed(
    running: Running, requests: Sequence[oip.ModelInferRequest], **options: Any
) -> list[oip.ModelStreamInferResponse]:
    call = running.inference.ModelStreamInfer(iter(requests), **options)
    return [response async for response in call]


async def test_every_request_has_its_response_in_order(running: Running, oracles: dict[str, Oracle]) -> None:
    """Far horizons beside near ones, two models, more than may be under way at once; random windows tell them apart."""
    generator = np.random.default_rng(4)
    names, horizons = ("demo", "last"), (7, 1, 3, 1)
    calls = []
    for k in range(3 * MAX_UNDER_WAY):
        name, horizon = names[k % 2], horizons[k % 4]
        calls.append((name, oracles[name].random_windows(generator, 1 + k % 3), horizon))
    requests = [
        numbered(infer_request(name, windows, horizon=horizon), f"r{k}")
        for k, (name, windows, horizon) in enumerate(calls)
    ]
    before = running.requests("ModelStreamInfer", "OK", "demo", "1")
    responses = await streamed(running, requests)
    assert [response.infer_response.id for response in responses] == [request.id for request in requests]
    for (name, windows, horizon), response in zip(calls, responses, strict=True):
        assert response.error_message == ""
        assert (response.infer_response.model_name, response.infer_response.model_version) == (name, "1")
        found = infer_outputs(response.infer_response)["next"]
        oracles[name].assert_right(found.copy(), oracles[name].predict(windows, horizon))
    assert running.requests("ModelStreamInfer", "OK", "demo", "1") == before + len(calls) / 2


async def test_an_error_is_one_response(running: Running, demo: Oracle) -> None:
    windows = demo.random_windows(np.random.default_rng(4), 2)
    requests = [
        numbered(infer_request("demo", windows), "first"),
        numbered(infer_request("nobody", windows), "second"),
        numbered(infer_request("demo", windows[:, :3]), "third"),
        numbered(infer_request("demo", windows, version="9"), "fourth"),
        numbered(infer_request("demo", windows), "fifth"),
    ]
    before = running.requests("ModelStreamInfer", "NOT_FOUND", "_unknown")
    responses = await streamed(running, requests)
    assert [response.infer_response.id for response in responses] == ["first", "second", "third", "fourth", "fifth"]
    assert [response.error_message for response in responses] == [
        "",
        "model is 'nobody'; the repository has: covariates, demand, demo, last, windowed",
        "inputs[window].shape is [2, 3, 1]; the model takes [N, 5, 1]",
        "version is '9'; model 'demo' has versions: 1",
        "",
    ]
    assert not responses[1].infer_response.outputs
    demo.assert_right(infer_outputs(responses[4].infer_response)["next"].copy(), demo.predict(windows))
    assert running.requests("ModelStreamInfer", "NOT_FOUND", "_unknown") == before + 1


async def test_who_asks_for_a_status_has_it(running: Running, demo: Oracle) -> None:
    """With the header that tools send for it, the first error ends the stream."""
    windows = demo.random_windows(np.random.default_rng(4), 2)
    requests = [infer_request("demo", windows), infer_request("nobody", windows), infer_request("demo", windows)]
    call = running.inference.ModelStreamInfer(iter(requests), metadata=(("triton_grpc_error", "true"),))
    assert (await call.read()).error_message == ""
    refused = await refusal(call.read())
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert refused.details.startswith("model is 'nobody'")


async def test_bytes_that_are_no_request(running: Running, demo: Oracle) -> None:
    """The stream lives on."""
    good = infer_request("demo", demo.random_windows(np.random.default_rng(4), 2)).SerializeToString()
    call: Any = running.channel.stream_stream(METHOD, response_deserializer=oip.ModelStreamInferResponse.FromString)
    responses = [response async for response in call(iter([good, b"\xff\xff\xff", good]))]
    assert [response.error_message for response in responses] == [
        "",
        "request is 3 bytes; they are not a message of this call's type",
        "",
    ]


async def test_an_empty_stream(running: Running) -> None:
    assert await streamed(running, []) == []


async def test_a_reply_comes_while_the_stream_is_open(running: Running, demo: Oracle) -> None:
    windows = demo.random_windows(np.random.default_rng(4), 1)
    call = running.inference.ModelStreamInfer()
    for _ in range(3):
        await call.write(infer_request("demo", windows))
        response = await call.read()
        demo.assert_right(infer_outputs(response.infer_response)["next"].copy(), demo.predict(windows))
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_who_leaves_hurts_nobody(models: Path, demo: Oracle) -> None:
    """A stream with a run under way and more in the queue is cancelled; another, in the same batches, is answered."""
    windows = demo.random_windows(np.random.default_rng(4), 6)
    async with serving(models) as own:
        with own.held("demo") as held:
            leaver = own.inference.ModelStreamInfer()
            stayer = own.inference.ModelStreamInfer()
            for k in range(3):
                await leaver.write(infer_request("demo", windows[k : k + 1], horizon=3))
                await stayer.write(infer_request("demo", windows[k + 3 : k + 4], horizon=3))
            # What is written may still be on its way; a cancelled stream drops what the server has not read.
            await eventually(
                lambda: held.batches and sum(held.batches) + own.sample("nextvalue_queue_windows", model="demo") == 6,
                "a run, and the others in the queue",
            )
            leaver.cancel()
            await eventually(
                lambda: own.requests("ModelStreamInfer", "CANCELLED", "demo", "1") == 3, "the leaver's requests to end"
            )
            held.release.set()
            for k in range(3):
                found = infer_outputs((await stayer.read()).infer_response)["next"]
                demo.assert_right(found.copy(), demo.predict(windows[k + 3 : k + 4], 3))
            await stayer.done_writing()
            assert await stayer.read() is grpc.aio.EOF
        assert own.sample("nextvalue_queue_windows", model="demo") == 0


async def test_a_deadline_ends_the_stream(models: Path, demo: Oracle) -> None:
    windows = demo.random_windows(np.random.default_rng(4), 1)
    async with serving(models) as own:
        with own.held("demo"):
            call = own.inference.ModelStreamInfer(iter([infer_request("demo", windows)]), timeout=0.3)
            assert (await refusal(call.read())).code == grpc.StatusCode.DEADLINE_EXCEEDED
            await eventually(
                lambda: own.requests("ModelStreamInfer", "DEADLINE_EXCEEDED", "demo", "1") == 1, "the request to end"
            )
        assert (await streamed(own, [infer_request("demo", windows)]))[0].error_message == ""


async def test_at_shutdown_what_was_read_is_answered(models: Path, demo: Oracle) -> None:
    """An open stream keeps no server from stopping."""
    windows = demo.random_windows(np.random.default_rng(4), 2)
    async with serving(models) as own:
        idle = own.inference.ModelStreamInfer()
        await idle.write(infer_request("demo", windows))
        await idle.read()
        with own.held("demo") as held:
            call = own.inference.ModelStreamInfer()
            await call.write(infer_request("demo", windows))
            await eventually(lambda: held.batches, "a run")
            stopping = asyncio.create_task(own.stop())
            await eventually(lambda: not own.server.predictor.ready, "the drain")
            await call.write(infer_request("demo", windows))
            await asyncio.sleep(0.05)
            assert not stopping.done()
            held.release.set()
            found = infer_outputs((await call.read()).infer_response)["next"]
            demo.assert_right(found.copy(), demo.predict(windows))
            assert (await call.read()).error_message == "the server is shutting down"
            for stream in (call, idle):
                refused = await refusal(stream.read())
                assert (refused.code, refused.details) == (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
            await asyncio.wait_for(stopping, 10)


async def slowly(requests: Sequence[oip.ModelInferRequest]) -> AsyncIterator[oip.ModelInferRequest]:
    for request in requests:
        await asyncio.sleep(0.001)
        yield request


async def test_streams_side_by_side(running: Running, demo: Oracle) -> None:
    """Each has its own answers."""
    windows = demo.random_windows(np.random.default_rng(8), 60)

    async def one(rows: slice) -> None:
        requests = [infer_request("demo", window[None], horizon=2) for window in windows[rows]]
        call = running.inference.ModelStreamInfer(slowly(requests))
        found = [infer_outputs(response.infer_response)["next"] async for response in call]
        demo.assert_right(np.concatenate(found), demo.predict(windows[rows], 2))

    await asyncio.gather(*(one(slice(start, start + 20)) for start in (0, 20, 40)))
