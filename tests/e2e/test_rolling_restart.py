"""All three servers behind Envoy are restarted under load, one after another, and no caller of ours notices.

A server that is told to end says NOT_SERVING, sends GOAWAY and answers what it has; Envoy takes it out, and the next is
restarted once this one is back in.
"""

import asyncio
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from nextvalue import AsyncClient, Client
from tests.e2e.envoy import envoy, needs_envoy
from tests.e2e.replicas import NUM_REPLICAS, replicas
from tests.e2e.restarts import CALLS_BETWEEN, restart_all
from tests.server.group import Callers
from tests.server.harness import LIMIT_SECONDS
from tests.server.oracle import Oracle

pytestmark = [pytest.mark.e2e, needs_envoy]


def test_client(models: Path, tmp_path: Path) -> None:
    demo = Oracle(models / "demo" / "1")
    with ExitStack() as stack:
        found = stack.enter_context(replicas(models, stack=stack))
        front = stack.enter_context(envoy(found, tmp_path))
        callers = Callers(front.target, demo, 4, connect=Client)
        try:
            restart_all(found, front, stack, "Predict")
        finally:
            callers.end()  # which fails if any call did, or was answered wrongly
        assert sum(callers.num_right) > NUM_REPLICAS * CALLS_BETWEEN


async def test_async_client(models: Path, tmp_path: Path) -> None:
    """Sixteen callers of one client, whose calls go joined; the same promise."""
    demo = Oracle(models / "demo" / "1")
    ending = asyncio.Event()

    async def call(client: AsyncClient, seed: int) -> int:
        generator = np.random.default_rng(seed)
        count = 0
        while not ending.is_set():
            windows = demo.random_windows(generator, 1)
            answer = await client.predict("demo", windows, timeout_seconds=LIMIT_SECONDS)
            demo.assert_right(answer.values, demo.predict(windows))
            count += 1
        return count

    with ExitStack() as stack:
        found = stack.enter_context(replicas(models, stack=stack))
        front = stack.enter_context(envoy(found, tmp_path))
        async with AsyncClient(front.target) as client:
            tasks = [asyncio.create_task(call(client, seed)) for seed in range(16)]
            try:
                await asyncio.to_thread(restart_all, found, front, stack, "Predict")
            finally:
                ending.set()
                counts = await asyncio.gather(*tasks)
        assert min(counts) > 0
