"""The live gate with the real torch reference in its own process."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from nextvalue import Client
from server.parity.link import SpawnedReference
from tests.server.harness import (
    LIMIT_SECONDS,
    Running,
    ShiftedSession,
    eventually,
    eventually_sync,
    server_process,
    serving,
)
from tests.server.oracle import Oracle

pytestmark = pytest.mark.live

# DESIGN asks that a graph altered after load shows this soon.
MISMATCH_SECONDS = 5.0


def checks(running: Running, result: str, model: str = "demo") -> float:
    return running.sample("nextvalue_parity_checks_total", model=model, version="1", result=result)


def reference_pid(running: Running) -> int:
    assert running.server.parity is not None
    link = running.server.parity._link
    assert isinstance(link, SpawnedReference)
    assert link.pid is not None
    return link.pid


@asynccontextmanager
async def watched(models: Path, **options: object) -> AsyncIterator[Running]:
    """A server whose every run is checked, its reference warm."""
    async with serving(models, **{"reference": "auto", "parity_share": 1} | options) as running:
        windows = np.zeros((1, 5, 1), np.float32)
        await running.predict("demo", windows)
        await eventually(lambda: checks(running, "match") == 1, "the first match")
        yield running


async def traffic_until(
    running: Running, oracle: Oracle, condition: Callable[[], bool], what: str, limit_seconds: float = LIMIT_SECONDS
) -> None:
    """Calls one after another, every one of them answered right, until `condition` holds."""
    generator = np.random.default_rng(5)
    give_up = time.monotonic() + limit_seconds
    while not condition():
        assert time.monotonic() < give_up, f"never happened: {what}"
        windows = oracle.random_windows(generator, 3)
        oracle.assert_right(await running.predict("demo", windows, horizon=2), oracle.predict(windows, 2))
        await asyncio.sleep(0.001)


async def test_every_model_matches_its_reference(models: Path, oracles: dict[str, Oracle]) -> None:
    """At every step of a horizon, in a rollout, and in split calls."""
    generator = np.random.default_rng(5)
    async with watched(models) as running:
        for name, oracle in oracles.items():
            for num_windows, horizon in ((1, 1), (7, 3), (600, 2)):
                call = oracle.random_call(generator, num_windows, horizon)
                await running.predict(name, call.windows, **call.options)
            slides = 1 if "sliding" in oracle.manifest.graphs else 3
            num_runs = {1: 1 + slides + 4, 2: 1 + 2 + 2, 3: 1 + 1 + 2}[oracle.direct_horizon]
            expected = num_runs + (name == "demo")
            await eventually(
                lambda name=name, expected=expected: checks(running, "match", name) == expected,  # type: ignore[misc]
                f"{expected} matches of {name}",
            )
            assert checks(running, "mismatch", name) == checks(running, "dropped", name) == 0
            where = {"model": name, "version": "1"}
            assert running.sample("nextvalue_parity_abs_error_count", **where) == expected
        assert running.server.parity is not None
        assert 0 < running.server.parity.worst.share_of_limit <= 1


async def test_a_graph_altered_after_load_is_noticed(models: Path, demo: Oracle) -> None:
    generator = np.random.default_rng(5)
    async with watched(models) as running:
        engine = running.engine("demo")
        engine.sessions["window"] = ShiftedSession(engine.sessions["window"])
        give_up = time.monotonic() + MISMATCH_SECONDS
        while not checks(running, "mismatch"):
            assert time.monotonic() < give_up, f"not noticed within {MISMATCH_SECONDS} s"
            windows = demo.random_windows(generator, 2)
            demo.assert_right(await running.predict("demo", windows) - np.float32(1), demo.predict(windows))
            await asyncio.sleep(0.01)
        labels = {"model": "demo", "version": "1"}
        assert running.sample("nextvalue_parity_abs_error_sum", **labels) >= 0.9
        assert await running.health_status() == "SERVING", "a mismatch is reported, not acted upon"


@pytest.mark.parametrize(("name", "output"), [("demand", "upper"), ("windowed", "lower"), ("demand", "next")])
async def test_any_output_altered_after_load_is_noticed(
    models: Path, oracles: dict[str, Oracle], name: str, output: str
) -> None:
    """Though nobody asked for intervals."""
    call = oracles[name].random_call(np.random.default_rng(5), 2)
    async with watched(models) as running:
        await running.predict(name, call.windows, **call.options)
        await eventually(lambda: checks(running, "match", name) == 1, "a match")
        engine = running.engine(name)
        engine.sessions["window"] = ShiftedSession(engine.sessions["window"], output)
        await running.predict(name, call.windows, **call.options)
        await eventually(lambda: checks(running, "mismatch", name) == 1, "a mismatch")
        assert checks(running, "match", name) == 1
        assert checks(running, "dropped", name) == 0


@pytest.mark.slow
async def test_a_reference_that_is_killed_is_restarted(models: Path, demo: Oracle) -> None:
    async with watched(models) as running:
        pid = reference_pid(running)
        os.kill(pid, signal.SIGKILL)
        await traffic_until(running, demo, lambda: checks(running, "dropped") > 0, "drops")
        matches = checks(running, "match")
        await traffic_until(running, demo, lambda: checks(running, "match") > matches + 10, "matches again")
        assert reference_pid(running) != pid
        assert checks(running, "mismatch") == 0


@pytest.mark.slow
async def test_a_reference_that_hangs_is_restarted(models: Path, demo: Oracle) -> None:
    async with watched(models, reference_timeout_seconds=0.5) as running:
        pid = reference_pid(running)
        os.kill(pid, signal.SIGSTOP)
        await traffic_until(running, demo, lambda: checks(running, "dropped") > 0, "drops")
        matches = checks(running, "match")
        await traffic_until(running, demo, lambda: checks(running, "match") > matches + 10, "matches again")
        assert reference_pid(running) != pid
        assert not psutil.pid_exists(pid), "the one that hung is still there"
        assert checks(running, "mismatch") == 0


@contextmanager
def external_reference(path: Path, models: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "export.reference", "--listen", f"unix:{path}", "--models", str(models)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        eventually_sync(path.exists, "the socket")
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
async def test_an_external_reference_is_joined(models: Path, demo: Oracle, tmp_path: Path) -> None:
    """It may be late, go and come back: the server never waits for it, and never starts or ends it."""
    path = tmp_path / "reference.sock"
    async with serving(models, reference=f"unix:{path}", parity_share=1) as running:
        await traffic_until(running, demo, lambda: checks(running, "dropped") > 0, "drops without a reference")
        assert checks(running, "match") == 0
        with external_reference(path, models):
            await traffic_until(running, demo, lambda: checks(running, "match") > 10, "matches")
        dropped = checks(running, "dropped")
        await traffic_until(running, demo, lambda: checks(running, "dropped") > dropped, "drops again")
        with external_reference(path, models) as reference:
            matches = checks(running, "match")
            await traffic_until(running, demo, lambda: checks(running, "match") > matches, "matches again")
            await running.stop()
            assert reference.poll() is None, "the server ended a reference that is not its own"
        assert checks(running, "mismatch") == 0


async def test_a_reference_without_the_model_is_a_drop(models: Path, demo: Oracle, tmp_path: Path) -> None:
    """The reference reads another repository: it cannot tell, and that is no mismatch."""
    shutil.copytree(models / "last", tmp_path / "models" / "last")
    path = tmp_path / "reference.sock"
    with external_reference(path, tmp_path / "models"):
        async with serving(models, reference=f"unix:{path}", parity_share=1) as running:
            await traffic_until(running, demo, lambda: checks(running, "dropped") > 0, "a drop")
            assert checks(running, "match") == checks(running, "mismatch") == 0


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody collected has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_reference_outlives_its_server(models: Path, number: signal.Signals, warm: bool) -> None:
    with server_process(models, "--reference", "auto", "--parity-share", "1") as process:
        process.await_ready()
        pid = int(process.await_line(r"reference process (\d+) started")[1])
        if warm:
            with Client(process.target) as client:
                client.predict("demo", [1.0, 2.0, 3.0, 4.0, 5.0])
            eventually_sync(lambda: re.search(r'checks_total{.*result="match".*} 1', process.page()), "a match")
        process.process.send_signal(number)
        assert process.process.wait(LIMIT_SECONDS) == (0 if number != signal.SIGKILL else -signal.SIGKILL)
        eventually_sync(lambda: gone(pid), "the end of the reference")
        process.wait()
        assert "Traceback" not in process.log
