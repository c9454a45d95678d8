"""A worker as its supervisor has it, in this process: what it says, and what it does when told."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import msgspec
import numpy as np
import pytest

from server.errors import StartupError
from server.status.facts import Facts
from server.supervisor.line import Line
from server.supervisor.messages import (
    Announce,
    Change,
    Changed,
    Drain,
    Draining,
    FromWorker,
    Ready,
    Start,
    from_worker,
    to_worker,
)
from server.worker.worker import Worker
from tests.server.group import OWN_CONNECTION
from tests.server.harness import Running, eventually, make_config
from tests.server.oracle import Oracle
from tests.server.test_repository import flip, publish_version

READY = Ready(serving={"demo": [1]})


def bare(message: FromWorker | None) -> FromWorker | None:
    """Without what it tells for the status page."""
    return msgspec.structs.replace(message, facts=Facts()) if isinstance(message, Ready | Changed) else message


class Employed:
    """A worker under way, and the supervisor's end of its line."""

    def __init__(self, worker: Worker, line: Line[FromWorker], run: asyncio.Task[None]) -> None:
        self.worker = worker
        self.line = line
        self.run = run

    @property
    def running(self) -> Running:
        server = self.worker._server
        return Running(server, grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=[OWN_CONNECTION]))


@asynccontextmanager
async def employed(models: Path, *, unloaded: list[str] | None = None) -> AsyncIterator[Employed]:
    ours, theirs = socket.socketpair()
    line, end = await Line.over(ours, from_worker), await Line.over(theirs, to_worker)
    start = Start(worker=1, config=make_config(models), unloaded=unloaded or [])
    worker = Worker(start, end, asyncio.Event())
    run = asyncio.create_task(worker.run())
    try:
        yield Employed(worker, line, run)
    finally:
        await line.close()
        await asyncio.gather(run, return_exceptions=True)
        await end.close()


@pytest.fixture
def own_models(models: Path, tmp_path: Path) -> Path:
    shutil.copytree(models / "demo", tmp_path / "models" / "demo")
    return tmp_path / "models"


async def test_it_answers_when_it_is_ready_and_says_so_when_it_is_announced(own_models: Path, demo: Oracle) -> None:
    async with employed(own_models) as it:
        ready = await it.line.receive()
        assert bare(ready) == READY
        assert isinstance(ready, Ready)
        assert [model.name for model in ready.facts.models] == ["demo"]
        running = it.running
        async with running.channel:
            windows = demo.random_windows(np.random.default_rng(0), 2)
            demo.assert_right(await running.predict("demo", windows), demo.predict(windows))
            assert await running.health_status() == "NOT_SERVING"
            assert await running.health_status("liveness") == "SERVING"
            it.line.send(Announce())
            await eventually(lambda: running.server.predictor.ready, "the announcement")
            assert await running.health_status() == "SERVING"
        it.line.send(Drain())
        assert await it.line.receive() == Draining()
        await it.run


async def test_the_port_is_opened_last(own_models: Path) -> None:
    async with employed(own_models) as it:
        assert it.worker._server.grpc_port == 0
        await it.line.receive()
        assert it.worker._server.repository.ready
        assert it.worker._server.grpc_port > 0


async def test_without_a_supervisor_it_drains(own_models: Path) -> None:
    async with employed(own_models) as it:
        await it.line.receive()
        await it.line.close()
        await asyncio.wait_for(it.run, 30)


async def test_without_a_supervisor_while_it_loads(own_models: Path) -> None:
    async with employed(own_models) as it:
        await it.line.close()
        await asyncio.wait_for(it.run, 30)


async def test_what_is_unloaded_stays_so(models: Path) -> None:
    async with employed(models, unloaded=["demo", "one whose folder is gone"]) as it:
        ready = await it.line.receive()
        assert isinstance(ready, Ready)
        assert sorted(ready.serving) == ["covariates", "demand", "last", "windowed"]
        repository = it.worker._server.repository
        assert not repository.serves("demo", 1)
        assert repository.serves("last", 1)


async def test_without_a_model_it_does_not_start(own_models: Path) -> None:
    flip(own_models / "demo" / "1" / "window.onnx")
    async with employed(own_models) as it:
        with pytest.raises(StartupError, match=rf"^no model in {own_models} can be served$"):
            await it.run


async def test_changes(own_models: Path) -> None:
    async with employed(own_models) as it:
        repository = it.worker._server.repository
        publish_version(own_models, 2)
        it.line.send(Change(number=1, action="load", model="demo"))  # while it starts
        assert isinstance(await it.line.receive(), Ready)
        assert bare(await it.line.receive()) == Changed(number=1, serving={"demo": [2]})
        assert repository.serves("demo", 2)
        it.line.send(Change(number=2, action="unload", model="demo"))
        assert bare(await it.line.receive()) == Changed(number=2, serving={})
        assert not repository.serves("demo", 2)
        it.line.send(Change(number=3, action="load", model="nobody"))
        changed = await it.line.receive()
        assert isinstance(changed, Changed)
        assert (changed.number, changed.error) == (3, "ModelNotFound")
        assert "model is 'nobody'" in changed.message
