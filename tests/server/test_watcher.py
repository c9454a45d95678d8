"""New versions, labels and models are found without being asked for, and nothing that serves is hurt by what happens
to its folder.
"""  # noqa: D205 (one sentence)

import asyncio
import contextlib
import gc
import shutil
import weakref
from pathlib import Path

import grpc
import numpy as np
import pytest
from prometheus_client import generate_latest

from nextvalue.v1 import nextvalue_pb2 as pb
from server import repository
from server.engine import Engine
from server.pb import open_inference_pb2 as oip
from server.settling import PATIENCE_LOOKS
from tests.server.harness import Running, eventually, predict_request, refusal, serving
from tests.server.oracle import Oracle
from tests.server.test_repository import flip, publish_version

WINDOWS = np.zeros((1, 5, 1), np.float32)
POLL = 0.05


@pytest.fixture
def own_models(models: Path, tmp_path: Path) -> Path:
    """A repository of one's own to change: demo, version 1."""
    shutil.copytree(models / "demo", tmp_path / "models" / "demo")
    return tmp_path / "models"


async def look(running: Running, times: int = 1) -> None:
    """As the poll does it, without the wait."""
    for _ in range(times):
        await running.server._watcher.look()


async def answering(running: Running, version: str = "", model: str = "demo") -> int:
    """The version that answers."""
    reply = await running.next_value.Predict(predict_request(model, WINDOWS, version=version))
    number: int = reply.version
    return number


async def states(running: Running, model: str = "demo") -> dict[int, tuple[str, str]]:
    """State and reason by version."""
    found = await running.next_value.GetModel(pb.GetModelRequest(model=model))
    name = pb.ModelVersion.State.Name
    return {each.version: (name(each.state).removeprefix("STATE_"), each.reason) for each in found.versions}


def counted(running: Running, model: str = "demo") -> dict[str, float | None]:
    """The gauge of versions by state."""
    read = running.server.metrics.registry.get_sample_value
    labels = ("loading", "serving", "failed", "standby")
    return {state: read("nextvalue_versions", {"model": model, "state": state}) for state in labels}


def page(running: Running) -> str:
    return generate_latest(running.server.metrics.registry).decode()


def in_place(models: Path, version: int, *, without: str) -> bytes:
    """A version whose publisher copies file by file and has one of them still to come; returns what is in that."""
    path = publish_version(models, version)
    data = (path / without).read_bytes()
    (path / without).unlink()
    return data


# ---- by itself ----


async def test_a_new_version_is_served_without_a_restart(own_models: Path, demo: Oracle) -> None:
    windows = demo.random_windows(np.random.default_rng(2), 4)
    async with serving(own_models, poll_seconds=POLL) as running:
        (first,) = running.server.repository.model("demo").versions
        with running.held("demo") as held:
            accepted = running.next_value.Predict(predict_request("demo", windows, horizon=3))
            await eventually(lambda: held.batches, "a run")
            publish_version(own_models, 2)
            await eventually(lambda: running.server.repository.serves("demo", 2), "version 2")
            assert await answering(running) == 2
            assert not accepted.done()
            held.release.set()
            reply = await accepted
        assert reply.version == 1, "accepted by version 1, answered by it"
        found = np.frombuffer(reply.predictions.raw_values, "<f4").reshape(4, 3)
        demo.assert_right(found.copy(), demo.predict(windows, 3))
        await eventually(lambda: first.engine is None, "the end of version 1")
        assert await states(running) == {2: ("SERVING", ""), 1: ("STANDBY", "version 2 is newer and serves")}
        assert counted(running) == {"loading": 0, "serving": 1, "failed": 0, "standby": 1}
        assert running.requests("Predict", "OK", "demo", "1") == 1


async def test_a_new_model_and_its_folder_gone(models: Path, own_models: Path, last: Oracle) -> None:
    async with serving(own_models, poll_seconds=POLL) as running:
        shutil.copytree(models / "last", own_models / ".last")
        (own_models / ".last").rename(own_models / "last")
        await eventually(lambda: running.server.repository.answers("last"), "the model")
        windows = last.random_windows(np.random.default_rng(3), 2)
        last.assert_right(await running.predict("last", windows), last.predict(windows))
        assert 'model="last"' in page(running)
        shutil.rmtree(own_models / "last")
        await eventually(lambda: not running.server.repository.knows("last"), "its end")
        refused = await refusal(running.predict("last", windows))
        assert refused.code == grpc.StatusCode.NOT_FOUND
        assert await answering(running) == 1
        await eventually(lambda: 'model="last"' not in page(running), "a page without it")


async def test_a_model_that_comes_back_is_counted_from_the_start(models: Path, own_models: Path) -> None:
    shutil.copytree(models / "last", own_models / "last")
    windows = np.zeros((1, 6, 1), np.float32)
    async with serving(own_models) as running:
        for _ in range(2):
            # Refused for its shape perhaps; counted either way.
            with contextlib.suppress(grpc.aio.AioRpcError):
                await running.predict("last", windows)
            counts = [
                sample.value
                for family in running.server.metrics.requests.collect()
                for sample in family.samples
                if sample.labels["model"] == "last"
            ]
            assert counts == [1]
            shutil.move(own_models / "last", own_models.parent / "last")
            await look(running, PATIENCE_LOOKS + 1)
            assert 'model="last"' not in page(running)
            shutil.move(own_models.parent / "last", own_models / "last")
            await look(running)


async def test_switched_off_nothing_is_looked_at(own_models: Path) -> None:
    async with serving(own_models, poll_seconds=0) as running:
        assert running.server._watching is None
        publish_version(own_models, 2)
        await asyncio.sleep(5 * POLL)
        assert await answering(running) == 1


async def test_a_server_that_began_with_nothing_becomes_ready(own_models: Path) -> None:
    empty = own_models.parent / "empty"
    empty.mkdir()
    async with serving(empty, poll_seconds=POLL) as running:
        assert await running.health_status() == "NOT_SERVING"
        (own_models / "demo").rename(empty / "demo")
        await eventually(lambda: running.server.repository.ready, "a model")
        assert await running.health_status() == "SERVING"
        assert await answering(running) == 1


async def test_a_stop_while_it_looks(own_models: Path) -> None:
    async with serving(own_models, poll_seconds=0.001) as running:
        publish_version(own_models, 2)
        await asyncio.sleep(0.02)
        await running.stop()
        assert running.server._watching is not None
        assert running.server._watching.done()


# ---- versions that are bad ----


async def test_a_bad_version_is_tried_once_and_told(
    own_models: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(own_models) as running:
        flip(publish_version(own_models, 2) / "window.onnx")
        await look(running)
        assert await answering(running) == 1
        (state, reason) = (await states(running))[2]
        assert (state, reason.startswith("window.onnx: sha256 is")) == ("FAILED", True)
        assert counted(running) == {"loading": 0, "serving": 1, "failed": 1, "standby": 0}
        refused = await refusal(answering(running, "2"))
        assert refused.details == f"version 2 of model 'demo' is not served: {reason}"
        assert await running.health_status() == "SERVING"

        def never(*_: object) -> None:
            raise AssertionError

        with monkeypatch.context() as patched:
            patched.setattr(repository, "load_engine", never)
            await look(running, 2 * PATIENCE_LOOKS)
        assert caplog.text.count("not served: window.onnx") == 1

        publish_version(own_models, 3)
        await look(running)
        assert await answering(running) == 3
        assert [state for state, _ in (await states(running)).values()] == ["SERVING", "FAILED", "STANDBY"]
        assert caplog.text.count("not served: window.onnx") == 1, "one that failed is not tried for a new one's sake"
        shutil.rmtree(own_models / "demo" / "2")
        await look(running, PATIENCE_LOOKS)
        assert counted(running) == {"loading": 0, "serving": 1, "failed": 0, "standby": 1}


async def test_a_bad_version_that_is_put_right_is_tried_again(own_models: Path) -> None:
    async with serving(own_models) as running:
        path = publish_version(own_models, 2) / "window.onnx"
        right = path.read_bytes()
        flip(path)
        await look(running)
        assert (await states(running))[2][0] == "FAILED"
        path.write_bytes(right)
        await look(running)
        assert await answering(running) == 2


async def test_bad_at_start_and_put_right_later(own_models: Path) -> None:
    window = own_models / "demo" / "1" / "window.onnx"
    right = window.read_bytes()
    flip(window)
    async with serving(own_models) as running:
        assert await running.health_status() == "NOT_SERVING"
        await look(running)
        window.write_bytes(right)
        await look(running)
        assert await running.health_status() == "SERVING"


@pytest.mark.parametrize("without", ["manifest.json", "window.onnx"])
async def test_half_a_version_is_waited_for(own_models: Path, caplog: pytest.LogCaptureFixture, without: str) -> None:
    """Copied file by file: nothing is tried, nothing is said, until all is there."""
    async with serving(own_models) as running:
        data = in_place(own_models, 2, without=without)
        await look(running, PATIENCE_LOOKS - 1)
        assert await states(running) == {1: ("SERVING", "")}
        (own_models / "demo" / "2" / without).write_bytes(data[:10])
        await look(running, PATIENCE_LOOKS - 1)
        assert await states(running) == {1: ("SERVING", "")}
        assert "not served" not in caplog.text
        (own_models / "demo" / "2" / without).write_bytes(data)
        await look(running)
        assert await answering(running) == 2


async def test_half_a_version_that_stays_so_is_told_once(own_models: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(own_models) as running:
        data = in_place(own_models, 2, without="window.onnx")
        await look(running, 3 * PATIENCE_LOOKS)
        assert (await states(running))[2] == ("FAILED", "window.onnx: No such file or directory")
        assert caplog.text.count("not served: window.onnx") == 1
        (own_models / "demo" / "2" / "window.onnx").write_bytes(data)
        await look(running)
        assert await answering(running) == 2


async def test_half_a_version_at_start_is_taken_up(own_models: Path) -> None:
    data = in_place(own_models, 2, without="manifest.json")
    async with serving(own_models) as running:
        assert (await states(running))[2][0] == "FAILED"
        await look(running, PATIENCE_LOOKS)
        (own_models / "demo" / "2" / "manifest.json").write_bytes(data)
        await look(running)
        assert await answering(running) == 2


# ---- folders that are removed or damaged under a server ----


async def test_the_only_model_goes_on_without_its_folder(
    own_models: Path, demo: Oracle, caplog: pytest.LogCaptureFixture
) -> None:
    """A file system that was unmounted looks like that."""
    windows = demo.random_windows(np.random.default_rng(4), 3)
    async with serving(own_models) as running:
        (own_models / "demo").rename(own_models.parent / "away")
        await look(running, 2 * PATIENCE_LOOKS)
        demo.assert_right(await running.predict("demo", windows), demo.predict(windows))
        assert await running.health_status() == "SERVING"
        assert caplog.text.count("all that serves is gone") == 1
        engine = running.engine("demo")
        (own_models.parent / "away").rename(own_models / "demo")
        await look(running, PATIENCE_LOOKS)
        assert running.engine("demo") is engine


async def test_the_whole_folder_gone(own_models: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(own_models) as running:
        shutil.move(own_models, own_models.parent / "away")
        await look(running, 2 * PATIENCE_LOOKS)
        assert await answering(running) == 1
        assert caplog.text.count("cannot be read: No such file or directory; what serves goes on") == 1


async def test_an_emptied_model_goes_on(own_models: Path) -> None:
    async with serving(own_models) as running:
        shutil.rmtree(own_models / "demo" / "1")
        await look(running, 3 * PATIENCE_LOOKS)
        assert await answering(running) == 1
        assert await states(running) == {1: ("SERVING", "")}


@pytest.mark.parametrize("name", ["manifest.json", "window.onnx"])
async def test_a_version_that_is_damaged_while_it_serves_goes_on(own_models: Path, name: str) -> None:
    """An older one that is whole does not take its place."""
    publish_version(own_models, 2)
    async with serving(own_models) as running:
        engine = running.engine("demo")
        flip(own_models / "demo" / "2" / name)
        await look(running, 3 * PATIENCE_LOOKS)
        assert await answering(running) == 2
        assert running.engine("demo") is engine
        (own_models / "demo" / "2" / name).unlink()
        await look(running, 3 * PATIENCE_LOOKS)
        assert running.engine("demo") is engine


async def test_a_version_is_taken_back_by_removing_it(own_models: Path) -> None:
    publish_version(own_models, 2)
    async with serving(own_models) as running:
        assert await answering(running) == 2
        shutil.rmtree(own_models / "demo" / "2")
        await look(running, PATIENCE_LOOKS - 1)
        assert await answering(running) == 2, "not yet"
        await look(running)
        assert await answering(running) == 1
        assert await states(running) == {1: ("SERVING", "")}
        await look(running)
        assert 'version="2"' not in page(running)
        assert running.requests("Predict", "OK", "demo", "1") == 1


async def test_a_version_that_was_published_anew_is_another(own_models: Path) -> None:
    """It never should be, but who does it means it."""
    async with serving(own_models) as running:
        engine = running.engine("demo")
        publish_version(own_models, 2, {"report.json": b"{}"})
        second = own_models / "demo" / "2"
        await look(running)
        shutil.rmtree(second)
        publish_version(own_models, 2, {"report.json": b"{ }"})
        await look(running, PATIENCE_LOOKS)
        assert await answering(running) == 2
        assert running.engine("demo") is not engine
        assert counted(running) == {"loading": 0, "serving": 1, "failed": 0, "standby": 1}
        assert running.sample("nextvalue_model_info", model="demo", version="2", cell="lstm",
                              provider="CPUExecutionProvider") == 1  # fmt: skip


# ---- labels ----


async def test_a_label_is_moved_by_rewriting_the_file(own_models: Path) -> None:
    publish_version(own_models, 2)
    labels = own_models / "demo" / "labels.json"
    labels.write_text('{"stable": 1, "default": 1, "canary": 2}')
    async with serving(own_models) as running:
        assert [await answering(running, name) for name in ("", "stable", "canary")] == [1, 1, 2]
        second = running.server.repository.resolve("demo", "2").engine
        labels.with_name(".labels").write_text('{"stable": 2, "default": 2}')
        labels.with_name(".labels").rename(labels)
        await look(running)
        assert [await answering(running, name) for name in ("", "stable")] == [2, 2]
        assert running.server.repository.resolve("demo", "").engine is second, "it was not loaded twice"
        assert (await refusal(answering(running, "canary"))).code == grpc.StatusCode.NOT_FOUND
        assert (await refusal(answering(running, "1"))).code == grpc.StatusCode.NOT_FOUND
        assert counted(running) == {"loading": 0, "serving": 1, "failed": 0, "standby": 1}


async def test_labels_that_are_half_written_move_nothing(own_models: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish_version(own_models, 2)
    labels = own_models / "demo" / "labels.json"
    labels.write_text('{"default": 1}')
    async with serving(own_models, admin="on") as running:
        labels.write_text('{"defau')
        await look(running, 2 * PATIENCE_LOOKS)
        await running.inference.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="demo"))
        await look(running)
        assert await answering(running) == 1
        publish_version(own_models, 3)
        await look(running)
        assert await answering(running) == 1
        assert caplog.text.count("no labels are taken") == 1
        labels.write_text('{"default": 3}')
        await look(running)
        assert await answering(running) == 3


# ---- beside an operator ----


async def test_what_an_operator_unloaded_stays_so(models: Path, own_models: Path) -> None:
    shutil.copytree(models / "last", own_models / "last")
    async with serving(own_models, admin="on") as running:
        await running.inference.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name="demo"))
        publish_version(own_models, 2)
        await look(running, 2 * PATIENCE_LOOKS)
        assert (await refusal(answering(running))).code == grpc.StatusCode.NOT_FOUND
        await running.inference.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="demo"))
        assert await answering(running) == 2
        publish_version(own_models, 3)
        await look(running)
        assert await answering(running) == 3


async def test_what_an_operator_did_meanwhile_is_not_undone(own_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and what follows from it."""
    async with serving(own_models, admin="on") as running:
        publish_version(own_models, 2)
        settling = running.server._watcher._settling
        settle = settling.settle
        loop = asyncio.get_running_loop()
        unloads: list[asyncio.Task[None]] = []

        def unload_first(*arguments: object) -> object:
            unloads.append(loop.create_task(running.server.loader.unload("demo")))
            # Takes its turn before the refresh does.
            return settle(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(settling, "settle", unload_first)
        monkeypatch.setattr(running.server.loader, "refresh", late(running.server.loader.refresh))
        await look(running)
        await asyncio.gather(*unloads)
        assert (await refusal(answering(running))).code == grpc.StatusCode.NOT_FOUND
        assert {state for state, _ in (await states(running)).values()} == {"STANDBY"}


def late(call: object) -> object:
    """The same, after others have had their turn of the loop."""

    async def called(*arguments: object, **options: object) -> None:
        await asyncio.sleep(0.02)
        await call(*arguments, **options)  # type: ignore[operator]

    return called


async def test_nothing_of_a_version_is_left(own_models: Path) -> None:
    async with serving(own_models) as running:
        engine: weakref.ref[Engine] = weakref.ref(running.engine("demo"))
        await answering(running)
        publish_version(own_models, 2)
        await look(running)
        gc.collect()
        assert engine() is None
