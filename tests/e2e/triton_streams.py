"""python -m tests.e2e.triton_streams TARGET < windows.npy: tritonclient's streams and its asyncio client, as JSON.

A program of its own, for the reason that triton_calls is.
"""

import asyncio
import io
import json
import queue
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from tritonclient import grpc as triton
from tritonclient.grpc import aio as triton_aio
from tritonclient.utils import InferenceServerException

LIMIT_SECONDS = 60
Outcome = tuple[triton.InferResult | None, InferenceServerException | None]


def tensor_of(windows: np.ndarray) -> triton.InferInput:
    """One call's input."""
    tensor = triton.InferInput("window", list(windows.shape), "FP32")
    tensor.set_data_from_numpy(windows)
    return tensor


def shown(result: triton.InferResult | None, error: InferenceServerException | None) -> Any:
    """An answer as its id and values, a failure as its words."""
    if error is not None or result is None:
        return str(error)
    return [result.get_response().id, result.as_numpy("next").tolist()]


def stream(target: str, windows: np.ndarray) -> list[Any]:
    """Every window a request of its own, its horizon growing; among them one for a model that nobody has."""
    found: queue.Queue[Outcome] = queue.Queue()
    with triton.InferenceServerClient(target) as client:
        client.start_stream(callback=lambda result, error: found.put((result, error)))
        for k, window in enumerate(windows):
            if k == 2:
                client.async_stream_infer("nobody", [tensor_of(window[None])], request_id="bad")
            client.async_stream_infer(
                "demo", [tensor_of(window[None])], request_id=f"r{k}", parameters={"horizon": k + 1}
            )
        outcomes = [found.get(timeout=LIMIT_SECONDS) for _ in range(len(windows) + 1)]
        client.stop_stream()
    return [shown(*outcome) for outcome in outcomes]


def strict_stream(target: str, windows: np.ndarray) -> str:
    """Its first error is the stream's status."""
    found: queue.Queue[Outcome] = queue.Queue()
    with triton.InferenceServerClient(target) as client:
        client.start_stream(
            callback=lambda result, error: found.put((result, error)), headers={"triton_grpc_error": "true"}
        )
        client.async_stream_infer("nobody", [tensor_of(windows)])
        _, error = found.get(timeout=LIMIT_SECONDS)
        client.stop_stream()
    assert error is not None
    return f"{error.status()}: {error.message()}"


def cancelled_stream(target: str, windows: np.ndarray) -> Any:
    """Left with requests under way; a stream on the same connection goes on."""
    found: queue.Queue[Outcome] = queue.Queue()
    with triton.InferenceServerClient(target) as leaver, triton.InferenceServerClient(target) as stayer:
        leaver.start_stream(callback=lambda result, error: None)  # noqa: ARG005 (called by these names)
        stayer.start_stream(callback=lambda result, error: found.put((result, error)))
        for _ in range(20):
            leaver.async_stream_infer("demo", [tensor_of(windows)], parameters={"horizon": 500})
        stayer.async_stream_infer("demo", [tensor_of(windows)], request_id="stays")
        leaver.stop_stream(cancel_requests=True)
        outcome = found.get(timeout=LIMIT_SECONDS)
        stayer.stop_stream()
    return shown(*outcome)


async def asynchronously(target: str, windows: np.ndarray) -> dict[str, Any]:
    """The asyncio client: calls at once, a stream, and the questions that it asks elsewhere."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for k, window in enumerate(windows):
            yield {"model_name": "demo", "inputs": [tensor_of(window[None])], "request_id": f"a{k}"}
        yield {"model_name": "demo", "inputs": [tensor_of(windows[:, :3])], "request_id": "bad"}

    async with triton_aio.InferenceServerClient(target) as client:
        results = await asyncio.gather(
            *(client.infer("demo", [tensor_of(window[None])], request_id=f"g{k}") for k, window in enumerate(windows))
        )
        streamed = [shown(*outcome) async for outcome in client.stream_infer(requests())]
        try:
            await client.infer("nobody", [tensor_of(windows)])
            refused = "answered"
        except InferenceServerException as error:
            refused = f"{error.status()}: {error.message()}"
        return {
            "live": await client.is_server_live(),
            "ready": [await client.is_server_ready(), await client.is_model_ready("demo")],
            "gathered": [shown(result, None) for result in results],
            "streamed": streamed,
            "refused": refused,
            "config": await client.get_model_config("demo", as_json=True),
            "metadata": await client.get_model_metadata("demo", as_json=True),
            "statistics": await client.get_inference_statistics("demo", as_json=True),
            "index": await client.get_model_repository_index(as_json=True),
        }


def main() -> None:
    """Call everything, print what came back."""
    target, windows = sys.argv[1], np.load(io.BytesIO(sys.stdin.buffer.read()))
    answers = {
        "stream": stream(target, windows),
        "strict": strict_stream(target, windows),
        "cancelled": cancelled_stream(target, windows),
        "aio": asyncio.run(asynchronously(target, windows)),
    }
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
