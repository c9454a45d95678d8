"""Many versions, one after another, under traffic: no call fails, every answer is right, and nothing stays behind."""

import asyncio
import gc
import io
import shutil
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest

from export.artifact.folder import GOLDEN
from server.session import Session
from tests.server.harness import Running, eventually, predict_request, serving
from tests.server.oracle import Oracle
from tests.server.test_repository import publish_version

RELOADS = 36
KEPT = 3
CALLERS = 4
STEP = 16.0


def publish_shifted(models: Path, original: Path, version: int, demo: Oracle) -> None:
    """A version that answers STEP * version more than the original does: its last constant, and its golden, are moved.

    For one value ahead alone: the other graphs are as they were.
    """
    shift = np.float32(STEP * version)
    graph = (original / "window.onnx").read_bytes()
    constant = demo._weights["head.point.bias"] * demo._weights["transform.target_scale"]
    before = (constant + demo._weights["transform.target_mean"]).astype("<f4")
    assert graph.count(before.tobytes()) == 1
    with np.load(io.BytesIO((original / GOLDEN).read_bytes())) as archive:
        arrays = dict(archive)
    arrays["window/next"] = arrays["window/next"] + shift
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    shifted = graph.replace(before.tobytes(), (before + shift).tobytes())
    publish_version(models, version, {"window.onnx": shifted, GOLDEN: buffer.getvalue()})


def live_sessions() -> int:
    gc.collect()
    # By type: isinstance asks some objects of torch's for an attribute, and they warn.
    return sum(issubclass(type(each), Session) for each in gc.get_objects())


def engine_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("engine-demo")]


def listed(running: Running) -> set[int]:
    return {version.number for version in running.server.repository.model("demo").versions}


def page_lines(running: Running) -> int:
    return len(generate_latest(running.server.metrics.registry).splitlines())


@pytest.mark.slow
async def test_many_reloads_under_traffic(models: Path, tmp_path: Path, demo: Oracle) -> None:
    own, original = tmp_path / "models", models / "demo" / "1"
    # Whose bytes are read and published again under other numbers.
    shutil.copytree(original, own / "demo" / "1")
    windows = demo.random_windows(np.random.default_rng(6), 3)
    expected = demo.predict(windows)
    answered: Counter[int] = Counter()
    done = asyncio.Event()

    async def ask(running: Running) -> None:
        while not done.is_set():
            reply = await running.next_value.Predict(predict_request("demo", windows))
            found = np.frombuffer(reply.predictions.raw_values, "<f4").reshape(3, 1)
            shift = 0.0 if reply.version == 1 else STEP * reply.version
            np.testing.assert_allclose(found - shift, expected, atol=2e-4, err_msg=f"version {reply.version}")
            answered[reply.version] += 1

    before = live_sessions()
    async with serving(own, poll_seconds=0.02) as running:
        of_one_version = live_sessions() - before
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(ask(running))
            for number in range(2, RELOADS + 2):
                publish_shifted(own, original, number, demo)
                await eventually(lambda: running.server.repository.serves("demo", number), f"version {number}")  # noqa: B023 (awaited)
                await eventually(lambda: answered[number], "an answer of it")  # noqa: B023 (awaited)
                if number - KEPT > 1:
                    # The first is what the others are made from.
                    await asyncio.to_thread(shutil.rmtree, own / "demo" / str(number - KEPT))
                if number == RELOADS // 2:
                    lines_halfway = page_lines(running)
            done.set()
        last = RELOADS + 1
        assert set(answered) == set(range(1, last + 1))
        kept = {1, *range(last - KEPT + 1, last + 1)}
        await eventually(lambda: listed(running) == kept, "the removed ones off the list")
        await running.server._watcher.look()
        assert live_sessions() - before == of_one_version
        assert len(engine_threads()) == 1
        assert len(running.server._calls._known_children) <= len(kept) + 1  # type: ignore[union-attr]
        assert page_lines(running) <= lines_halfway + 10
        failures = [
            sample
            for family in running.server.metrics.requests.collect()
            for sample in family.samples
            if sample.labels["code"] != "OK"
        ]
        assert not failures
    await eventually(lambda: not engine_threads(), "the end of the last engine")
