"""Many callers at once, some of whom leave: everybody else gets their own right answer."""

import asyncio
from contextlib import ExitStack

import grpc
import numpy as np
import pytest

from tests.server.harness import LIMIT_SECONDS, Running, eventually, predict_request, to_numpy
from tests.server.oracle import Oracle

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUM_CALLERS = 1000


@pytest.mark.slow
async def test_a_thousand_callers_a_third_of_whom_leave(
    running: Running, oracles: dict[str, Oracle], generator: np.random.Generator
) -> None:
    names = sorted(oracles)
    leaving = set(generator.choice(NUM_CALLERS, NUM_CALLERS // 3, replace=False).tolist())
    arrivals, stays = generator.uniform(0, [[0.5], [0.2]], (2, NUM_CALLERS)).tolist()
    calls = []
    for k in range(NUM_CALLERS):
        oracle = oracles[names[k % len(names)]]
        num_windows, horizon = int(generator.integers(1, 60)), int(generator.integers(1, 8))
        call = oracle.random_call(generator, num_windows, horizon)
        request = predict_request(oracle.manifest.name, call.windows, **call.options)
        calls.append((oracle, request, oracle.expect(call)))
    answered = 0
    crowded = asyncio.Event()

    async def caller(k: int) -> None:
        nonlocal answered
        oracle, request, expected = calls[k]
        await asyncio.sleep(arrivals[k])
        call = running.next_value.Predict(request, timeout=LIMIT_SECONDS)
        if k in leaving:
            if k % 2:
                await crowded.wait()
            await asyncio.sleep(stays[k])
            if call.cancel():
                assert await call.code() == grpc.StatusCode.CANCELLED
                return
        oracle.assert_right(to_numpy((await call).predictions), expected)
        answered += 1

    def counted(code: str) -> float:
        return sum(running.requests("Predict", code, name, "1") for name in names)

    def num_waiting() -> int:
        return sum(len(running.server.repository.resolve(name, "").batcher._waiting) for name in names)

    with ExitStack() as stack:
        # The engines wait until half of all callers are with the server and some of those have left; from then on
        # they run as fast as they can. Who leaves sooner may never have been seen by the server.
        held = [stack.enter_context(running.held(name)) for name in names]
        crowd = asyncio.gather(*(caller(k) for k in range(NUM_CALLERS)))
        await eventually(lambda: num_waiting() >= NUM_CALLERS // 2, "half of all callers with the server")
        crowded.set()
        await eventually(lambda: counted("CANCELLED") >= 10, "ten callers who left while being served")
        for session in held:
            session.release.set()
        await crowd
    assert answered >= NUM_CALLERS - len(leaving)
    for name in names:
        await eventually(
            lambda name=name: running.sample("nextvalue_queue_windows", model=name) == 0,  # type: ignore[misc]
            "an empty queue",
        )
    assert counted("OK") >= answered
    assert counted("OK") + counted("CANCELLED") <= NUM_CALLERS


async def test_callers_share_runs(running: Running, demo: Oracle, generator: np.random.Generator) -> None:
    """32 in flight, one window each: whoever comes while the engine runs is in the next run with the others."""
    windows = demo.random_windows(generator, 32 * 20)
    expected = demo.predict(windows)
    name = "nextvalue_batch_windows"
    before = {suffix: running.sample(f"{name}_{suffix}", model="demo") for suffix in ("sum", "count")}

    async def caller(k: int) -> None:
        for row in range(k, len(windows), 32):
            demo.assert_right(await running.predict("demo", windows[row : row + 1]), expected[row : row + 1])

    await asyncio.gather(*(caller(k) for k in range(32)))
    total, runs = (running.sample(f"{name}_{suffix}", model="demo") - before[suffix] for suffix in ("sum", "count"))
    assert total == len(windows)
    assert total / runs > 1
