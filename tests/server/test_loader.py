"""Models loaded and let go while the server runs: nobody who was accepted notices."""

import asyncio
import shutil
import threading
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import grpc
import numpy as np
import pytest
from prometheus_client import generate_latest

from export.artifact.folder import Artifact
from export.artifact.limits import Deviation
from nextvalue.v1 import nextvalue_pb2 as pb
from server import gate, repository
from server.engine import Engine
from server.pb import open_inference_pb2 as oip
from server.provider import Provider
from server.versions import UNLOADED, State
from tests.server.harness import LIMIT_SECONDS, Running, eventually, infer_request, predict_request, refusal, serving
from tests.server.oracle import Oracle
from tests.server.test_repository import flip, publish_version

WINDOWS = np.zeros((1, 5, 1), np.float32)


@pytest.fixture
def own_models(models: Path, tmp_path: Path) -> Path:
    """A repository of one's own to change: demo, version 1."""
    shutil.copytree(models / "demo", tmp_path / "models" / "demo")
    return tmp_path / "models"


def changing(models: Path, **options: object) -> AbstractAsyncContextManager[Running]:
    return serving(models, admin="on", **options)


async def load(running: Running, name: str) -> None:
    await running.inference.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name=name))


async def unload(running: Running, name: str) -> None:
    await running.inference.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name=name))


async def index(running: Running, *, ready: bool = False) -> list[tuple[str, str, str, str]]:
    reply = await running.inference.RepositoryIndex(oip.RepositoryIndexRequest(ready=ready))
    return [(each.name, each.version, each.state, each.reason) for each in reply.models]


async def answering(running: Running, version: str = "") -> int:
    """The version that answers."""
    reply = await running.next_value.Predict(predict_request("demo", WINDOWS, version=version))
    number: int = reply.version
    return number


def page(running: Running) -> str:
    return generate_latest(running.server.metrics.registry).decode()


async def test_a_new_version_takes_over(own_models: Path) -> None:
    async with changing(own_models) as running:
        publish_version(own_models, 2)
        assert await answering(running) == 1, "nothing is read before it is asked for"
        await load(running, "demo")
        assert await answering(running) == 2
        assert await index(running) == [
            ("demo", "2", "READY", ""),
            ("demo", "1", "UNAVAILABLE", "version 2 is newer and serves"),
        ]
        assert await index(running, ready=True) == [("demo", "2", "READY", "")]
        info = [line for line in page(running).splitlines() if line.startswith("nextvalue_model_info{")]
        assert len(info) == 1
        assert 'version="2"' in info[0]


async def test_what_serves_and_has_not_changed_is_kept(own_models: Path) -> None:
    async with changing(own_models) as running:
        engine = running.engine("demo")
        await load(running, "demo")
        assert running.engine("demo") is engine


async def test_a_model_that_is_new(models: Path, own_models: Path, last: Oracle) -> None:
    async with changing(own_models) as running:
        refused = await refusal(load(running, "last"))
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert "model is 'last'" in refused.details
        shutil.copytree(models / "last", own_models / "last")
        await load(running, "last")
        windows = last.random_windows(np.random.default_rng(3), 2)
        last.assert_right(await running.predict("last", windows), last.predict(windows))
        assert [model.name for model in running.server.repository.models()] == ["demo", "last"]


@pytest.mark.parametrize("name", ["", "..", "../demo", "demo/1", "not a name", "x" * 10_000])
async def test_a_name_is_no_path(own_models: Path, name: str) -> None:
    async with changing(own_models) as running:
        for call in (load(running, name), unload(running, name)):
            assert (await refusal(call)).code == grpc.StatusCode.NOT_FOUND
        assert await index(running, ready=True) == [("demo", "1", "READY", "")]


async def test_a_bad_version_takes_nothing_away(own_models: Path) -> None:
    async with changing(own_models) as running:
        flip(publish_version(own_models, 2) / "window.onnx")
        refused = await refusal(load(running, "demo"))
        assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
        assert refused.details.startswith(
            "model 'demo' was not loaded whole; versions that serve: 1; version 2: window.onnx: sha256 is"
        )
        assert await answering(running) == 1
        assert [row[:3] for row in await index(running)] == [("demo", "2", "UNAVAILABLE"), ("demo", "1", "READY")]


async def test_a_folder_that_changed_under_its_number(own_models: Path) -> None:
    """It never should. What was loaded serves until something better is there."""
    async with changing(own_models) as running:
        flip(own_models / "demo" / "1" / "manifest.json")
        refused = await refusal(load(running, "demo"))
        assert refused.code == grpc.StatusCode.FAILED_PRECONDITION
        assert "versions that serve: 1; version 1: manifest.json" in refused.details
        assert await answering(running) == 1


async def test_a_folder_that_is_gone(own_models: Path) -> None:
    """Version 2 takes over from 1, which is there no more."""
    async with changing(own_models) as running:
        publish_version(own_models, 2)
        shutil.rmtree(own_models / "demo" / "1")
        await load(running, "demo")
        assert await index(running) == [("demo", "2", "READY", "")]
        assert await answering(running) == 2


async def test_a_version_that_takes_over_lets_the_old_one_finish(
    own_models: Path, demo: Oracle, generator: np.random.Generator
) -> None:
    """Accepted by version 1, answered by it, while version 2 already answers others."""
    windows = demo.random_windows(generator, 4)
    async with changing(own_models) as running:
        with running.held("demo") as held:
            accepted = [asyncio.create_task(running.predict("demo", windows, horizon=3))]
            await eventually(lambda: held.batches, "a run")
            accepted.append(asyncio.create_task(running.predict("demo", windows, horizon=2)))
            await eventually(lambda: running.sample("nextvalue_queue_windows", model="demo") == 4, "a queue")
            publish_version(own_models, 2)
            loading = asyncio.create_task(load(running, "demo"))
            await eventually(lambda: running.server.repository.serves("demo", 2), "version 2")
            assert await answering(running) == 2
            assert not loading.done()
            held.release.set()
            for call, horizon in zip(accepted, (3, 2), strict=True):
                demo.assert_right(await call, demo.predict(windows, horizon))
            await loading
        assert running.requests("Predict", "OK", "demo", "1") == 2


async def test_unloading_under_traffic(own_models: Path, demo: Oracle, generator: np.random.Generator) -> None:
    """Accepted calls are answered, new ones are NOT_FOUND, the index tells how far it is."""
    windows = demo.random_windows(generator, 4)
    async with changing(own_models) as running:
        with running.held("demo") as held:
            accepted = [asyncio.create_task(running.predict("demo", windows, horizon=3))]
            await eventually(lambda: held.batches, "a run")
            accepted.append(asyncio.create_task(running.predict("demo", windows, horizon=2)))
            await eventually(lambda: running.sample("nextvalue_queue_windows", model="demo") == 4, "a queue")
            unloading = asyncio.create_task(unload(running, "demo"))
            await eventually(lambda: not running.server.repository.ready, "the unloading")
            assert await index(running) == [("demo", "1", "UNLOADING", UNLOADED)]
            for call in (
                running.next_value.Predict(predict_request("demo", WINDOWS)),
                running.inference.ModelInfer(infer_request("demo", WINDOWS, version="1")),
            ):
                refused = await refusal(call)
                assert refused.code == grpc.StatusCode.NOT_FOUND
                assert refused.details == f"version 1 of model 'demo' is not served: {UNLOADED}"
            assert not (await running.inference.ModelReady(oip.ModelReadyRequest(name="demo"))).ready
            assert await running.health_status() == "NOT_SERVING"
            assert not unloading.done()
            held.release.set()
            for each, horizon in zip(accepted, (3, 2), strict=True):
                demo.assert_right(await each, demo.predict(windows, horizon))
            await unloading
        assert await index(running) == [("demo", "1", "UNAVAILABLE", UNLOADED)]
        (model,) = (await running.next_value.ListModels(pb.ListModelsRequest())).models
        assert (model.versions[0].state, model.default_version) == (pb.ModelVersion.STATE_STANDBY, 0)
        assert "nextvalue_model_info{" not in page(running)
        assert "nextvalue_graph_nodes" not in [line.partition("{")[0] for line in page(running).splitlines()]
        assert "nextvalue_graph_nodes_elsewhere{" not in page(running)
        version = running.server.repository.model("demo").versions[0]
        assert (version.engine, version.batcher) == (None, None), "its memory is free"

        await load(running, "demo")
        assert await running.health_status() == "SERVING"
        demo.assert_right(await running.predict("demo", windows), demo.predict(windows))


async def test_unloading_one_leaves_the_others(models: Path, own_models: Path) -> None:
    shutil.copytree(models / "last", own_models / "last")
    async with changing(own_models) as running:
        await unload(running, "last")
        await unload(running, "last")
        assert await answering(running) == 1
        assert await running.health_status() == "SERVING"


async def test_nobody_is_lost_while_versions_come_and_go(own_models: Path, demo: Oracle) -> None:
    """Callers all the while; every answer is right, whichever version gives it, and there is no other status."""
    windows = demo.random_windows(np.random.default_rng(5), 3)
    expected = demo.predict(windows, 2)
    versions: set[int] = set()
    done = asyncio.Event()

    async def ask(running: Running) -> None:
        while not done.is_set():
            reply = await running.next_value.Predict(predict_request("demo", windows, horizon=2))
            versions.add(reply.version)
            found = np.frombuffer(reply.predictions.raw_values, "<f4").reshape(3, 2)
            demo.assert_right(found.copy(), expected)

    async with changing(own_models) as running, asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(ask(running))
        for number in range(2, 7):
            publish_version(own_models, number)
            await load(running, "demo")
        done.set()
    assert versions >= {1, 6}


async def test_what_does_not_drain_is_told_so(own_models: Path) -> None:
    async with changing(own_models, drain_seconds=0.05) as running:
        with running.held("demo") as held:
            call = asyncio.create_task(refusal(running.predict("demo", WINDOWS)))
            await eventually(lambda: held.batches, "a run")
            await unload(running, "demo")
            assert (await call).code == grpc.StatusCode.UNAVAILABLE


class Door:
    """Every load waits at it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.waiting = threading.Event(), threading.Event()
        load_engine = gate.load_engine

        def held_load(artifact: Artifact, provider: Provider, options: gate.LoadOptions) -> tuple[Engine, Deviation]:
            self.waiting.set()
            assert self.open.wait(LIMIT_SECONDS)
            return load_engine(artifact, provider, options)

        monkeypatch.setattr(repository, "load_engine", held_load)


async def test_a_caller_that_leaves_leaves_nothing_half_done(own_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with changing(own_models) as running:
        publish_version(own_models, 2)
        door = Door(monkeypatch)
        loading = asyncio.create_task(load(running, "demo"))
        await eventually(door.waiting.is_set, "the load")
        loading.cancel()
        assert await answering(running) == 1, "callers do not wait for a load"
        door.open.set()
        await eventually(lambda: running.server.repository.serves("demo", 2), "version 2")
        await unload(running, "demo")


async def test_changes_take_turns(own_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with changing(own_models) as running:
        publish_version(own_models, 2)
        door = Door(monkeypatch)
        changes = [asyncio.create_task(load(running, "demo"))]
        await eventually(door.waiting.is_set, "the load")
        changes.append(asyncio.create_task(unload(running, "demo")))
        await asyncio.sleep(0.05)
        assert await answering(running) == 1, "the unload waits for the load"
        door.open.set()
        await asyncio.gather(*changes)
        assert [row[2] for row in await index(running)] == ["UNAVAILABLE", "UNAVAILABLE"]


async def test_a_stop_in_the_midst_of_a_load(own_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with changing(own_models) as running:
        publish_version(own_models, 2)
        door = Door(monkeypatch)
        calls = [asyncio.create_task(refusal(load(running, "demo")))]
        await eventually(door.waiting.is_set, "the load")
        calls.append(asyncio.create_task(refusal(load(running, "demo"))))
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(running.stop())
        await asyncio.sleep(0.05)
        door.open.set()
        for call in calls:
            assert (await call).code == grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(stopping, LIMIT_SECONDS)


# ---- what is refused ----


@pytest.mark.parametrize("rpc", ["RepositoryModelLoad", "RepositoryModelUnload"])
async def test_switched_off_unless_switched_on(own_models: Path, rpc: str) -> None:
    request = getattr(oip, f"{rpc}Request")(model_name="demo")
    async with serving(own_models) as running:
        refused = await refusal(getattr(running.inference, rpc)(request))
        assert refused.code == grpc.StatusCode.UNIMPLEMENTED
        assert refused.details == f"{rpc} is switched off; the server's option --admin on offers it"
        assert running.requests(rpc, "UNIMPLEMENTED", "demo") == 1
        assert await index(running) == [("demo", "1", "READY", "")], "reading is free"
        extensions = (await running.inference.ServerMetadata(oip.ServerMetadataRequest())).extensions
        assert list(extensions) == ["model_configuration", "parameters", "statistics"]


async def test_what_an_operator_may_not_say(own_models: Path) -> None:
    async with changing(own_models) as running:
        asked: list[tuple[str, object, str]] = [
            ("RepositoryIndex", oip.RepositoryIndexRequest(repository_name="other"), "repository_name is 'other'"),
            (
                "RepositoryModelLoad",
                oip.RepositoryModelLoadRequest(repository_name="other", model_name="demo"),
                "repository_name is 'other'; there is one repository; it must be empty",
            ),
            (
                "RepositoryModelLoad",
                oip.RepositoryModelLoadRequest(
                    model_name="demo", parameters={"config": oip.ModelRepositoryParameter(string_param="{}")}
                ),
                "parameters['config'] is given; an artifact is served as it was exported",
            ),
        ]
        for rpc, request, said in asked:
            refused = await refusal(getattr(running.inference, rpc)(request))
            assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
            assert said in refused.details
        parameters = {"unload_dependents": oip.ModelRepositoryParameter(bool_param=True)}
        await running.inference.RepositoryModelUnload(
            oip.RepositoryModelUnloadRequest(model_name="demo", parameters=parameters)
        )
        assert running.server.repository.model("demo").versions[0].state is State.STANDBY
