"""Calls that end in every way, at a server that is watched."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import grpc
import numpy as np

from server.pb import open_inference_pb2 as oip
from tests.server.harness import LIMIT_SECONDS, Running, eventually, infer_request, predict_request

WINDOW = np.zeros((3, 5, 1), np.float32)
Pair = tuple[str, str]


async def predict(running: Running, *metadata: Pair, model: str = "demo", rows: int = 3, horizon: int = 1) -> None:
    """One call of Predict; how it ends is its caller's affair."""
    request = predict_request(model, WINDOW[:rows], horizon=horizon)
    with suppress(grpc.aio.AioRpcError):
        await running.next_value.Predict(request, metadata=metadata, timeout=LIMIT_SECONDS)


async def late(running: Running) -> None:
    """One whose deadline passes while it waits behind another."""
    with running.held("demo") as held:
        first = asyncio.create_task(predict(running))
        await eventually(lambda: held.batches, "the first run")
        with suppress(grpc.aio.AioRpcError):
            await running.next_value.Predict(predict_request("demo", WINDOW), timeout=0.05)
    await first


async def stream(running: Running, *metadata: Pair) -> list[str]:
    """Two requests of a stream, one of which fails; the errors."""

    async def requests() -> AsyncIterator[oip.ModelInferRequest]:
        for model, name in (("demo", "first"), ("nobody", "second")):
            request = infer_request(model, WINDOW)
            request.id = name
            yield request

    answers = running.inference.ModelStreamInfer(requests(), metadata=metadata, timeout=LIMIT_SECONDS)
    return [answer.error_message async for answer in answers]
