"""Start, load, drain, stop: what callers see meanwhile."""

import asyncio
import socket
import sys
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from export.artifact.folder import Artifact
from export.artifact.limits import Deviation
from nextvalue.v1 import nextvalue_pb2 as pb
from server import gate, repository
from server.app import Server
from server.engine import Engine
from server.errors import StartupError
from server.pb import open_inference_pb2 as oip
from server.provider import Provider
from tests.server.conftest import MODELS
from tests.server.harness import (
    LIMIT_SECONDS,
    Running,
    eventually,
    make_config,
    predict_request,
    refusal,
    server_process,
    serving,
    started,
)
from tests.server.oracle import Oracle

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
WINDOWS = np.zeros((1, 5, 1), np.float32)


async def infer_ready(running: Running) -> bool:
    ready: bool = (await running.inference.ServerReady(oip.ServerReadyRequest())).ready
    return ready


async def model_ready(running: Running, name: str) -> bool:
    ready: bool = (await running.inference.ModelReady(oip.ModelReadyRequest(name=name))).ready
    return ready


async def test_while_loading(
    models: Path, demo: Oracle, generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not ready yet: UNAVAILABLE; each model answers as soon as it is loaded itself."""
    load_engine = gate.load_engine
    doors = {name: threading.Event() for name in MODELS}

    def held_load(artifact: Artifact, provider: Provider, options: gate.LoadOptions) -> tuple[Engine, Deviation]:
        assert doors[artifact.manifest.name].wait(LIMIT_SECONDS)
        return load_engine(artifact, provider, options)

    monkeypatch.setattr(repository, "load_engine", held_load)
    async with started(models) as running:
        try:
            await eventually(lambda: running.server.repository.listed, "the list of names")
            refused = await refusal(running.next_value.Predict(predict_request("demo", WINDOWS)))
            assert (refused.code, refused.details) == (UNAVAILABLE, "version 1 of model 'demo' is still being loaded")
            assert running.requests("Predict", "UNAVAILABLE", "demo") == 1
            assert running.sample("nextvalue_rejected_total", model="demo", reason="not_ready") == 1
            refused = await refusal(running.next_value.Predict(predict_request("nobody", WINDOWS)))
            assert refused.code == grpc.StatusCode.NOT_FOUND, "all names are known before anything is loaded"
            assert await running.health_status() == "NOT_SERVING"
            assert await running.health_status("readiness") == "NOT_SERVING"
            assert await running.health_status("liveness") == "SERVING"
            assert not await infer_ready(running)
            assert not await model_ready(running, "demo")
            states = [model.versions[0].state for model in (await list_models(running)).models]
            assert states == [pb.ModelVersion.STATE_LOADING] * len(MODELS)

            for name in ("covariates", "demand", "demo"):
                doors[name].set()
            await eventually(lambda: running.server.repository.model("demo").default(), "demo to be loaded")
            windows = demo.random_windows(generator, 2)
            demo.assert_right(await running.predict("demo", windows), demo.predict(windows))
            assert await model_ready(running, "demo")
            assert await running.health_status() == "NOT_SERVING", "the first scan is not done"
        finally:
            for door in doors.values():
                door.set()
        await running.server.loaded()
        assert await running.health_status() == "SERVING"
        assert await infer_ready(running)


async def list_models(running: Running) -> pb.ListModelsResponse:
    reply: pb.ListModelsResponse = await running.next_value.ListModels(pb.ListModelsRequest())
    return reply


@pytest.mark.parametrize("service", ["", "readiness"])
async def test_a_watch_sees_ready_and_draining(models: Path, service: str) -> None:
    async with started(models) as running:
        watch = running.health.Watch(health_pb2.HealthCheckRequest(service=service))
        seen = [(await watch.read()).status]
        await running.server.loaded()
        while seen[-1] != health_pb2.HealthCheckResponse.SERVING:
            seen.append((await watch.read()).status)
        stopping = asyncio.create_task(running.stop())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await stopping


async def test_draining(models: Path, demo: Oracle, generator: np.random.Generator) -> None:
    """Admitted work is answered, queued or running; new work is UNAVAILABLE; liveness stays."""
    windows = demo.random_windows(generator, 6)
    async with serving(models) as running:
        with running.held("demo") as held:
            admitted = [asyncio.create_task(running.predict("demo", windows[:2], horizon=3))]
            await eventually(lambda: held.batches, "a run")
            admitted.append(asyncio.create_task(running.predict("demo", windows[2:], horizon=2)))
            await eventually(lambda: running.sample("nextvalue_queue_windows", model="demo") == 4, "a queue")
            stopping = asyncio.create_task(running.stop())
            await eventually(lambda: not running.server.predictor.ready, "the drain")
            refused = await refusal(running.next_value.Predict(predict_request("demo", WINDOWS)))
            assert (refused.code, refused.details) == (UNAVAILABLE, "the server is shutting down")
            assert running.requests("Predict", "UNAVAILABLE", "demo") == 1
            assert running.sample("nextvalue_rejected_total", model="demo", reason="draining") == 1
            assert await running.health_status() == "NOT_SERVING"
            assert await running.health_status("readiness") == "NOT_SERVING"
            assert await running.health_status("liveness") == "SERVING"
            assert not await infer_ready(running)
            assert not await model_ready(running, "demo")
            assert not stopping.done()
            held.release.set()
            demo.assert_right(await admitted[0], demo.predict(windows[:2], 3))
            demo.assert_right(await admitted[1], demo.predict(windows[2:], 2))
            await stopping


@pytest.mark.parametrize("drain_seconds", [0, 0.05])
async def test_what_does_not_drain_is_told_so(
    models: Path, demo: Oracle, generator: np.random.Generator, drain_seconds: float
) -> None:
    async with serving(models, drain_seconds=drain_seconds) as running:
        with running.held("demo") as held:
            calls = [asyncio.create_task(refusal(running.predict("demo", demo.random_windows(generator, 2))))]
            await eventually(lambda: held.batches, "a run")
            calls.append(asyncio.create_task(refusal(running.predict("demo", demo.random_windows(generator, 3)))))
            await eventually(lambda: running.sample("nextvalue_queue_windows", model="demo") == 3, "a queue")
            stopping = asyncio.create_task(running.stop())
            for call in calls:
                refused = await call
                assert (refused.code, refused.details) == (UNAVAILABLE, "the server is shutting down")
            held.release.set()
            await stopping


async def test_stop_before_anything_is_loaded(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A load in progress is not waited out version by version."""
    loaded: list[str] = []
    load_engine = gate.load_engine
    go = threading.Event()

    def held_load(artifact: Artifact, provider: Provider, options: gate.LoadOptions) -> tuple[Engine, Deviation]:
        loaded.append(artifact.manifest.name)
        assert go.wait(LIMIT_SECONDS)
        return load_engine(artifact, provider, options)

    monkeypatch.setattr(repository, "load_engine", held_load)
    async with started(models) as running:
        await eventually(lambda: loaded, "the first load")
        stopping = asyncio.create_task(running.stop())
        await asyncio.sleep(0.05)
        go.set()
        await asyncio.wait_for(stopping, LIMIT_SECONDS)
        assert loaded == ["covariates"]


@pytest.mark.parametrize("which", ["grpc", "metrics"])
async def test_a_taken_port_is_one_line(models: Path, which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = Server(make_config(models, **{which: address}))
        with pytest.raises(StartupError, match=rf"^{which} is '{address}'; cannot listen there") as caught:
            await server.start()
        assert "\n" not in str(caught.value)


async def test_two_servers_never_share_a_port(models: Path) -> None:
    async with started(models) as running:
        server = Server(make_config(models, grpc=f"127.0.0.1:{running.server.grpc_port}"))
        with pytest.raises(StartupError, match="is the port taken"):
            await server.start()


async def test_a_folder_that_goes_away_before_the_scan(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not ready, alive, and the log says why."""
    folder = tmp_path / "models"
    folder.mkdir()
    server = Server(make_config(folder))
    folder.rmdir()
    await server.start()
    try:
        await server.loaded()
        assert not server.predictor.ready
        assert str(folder) in caplog.text
    finally:
        await server.stop()


async def test_a_server_without_models_is_alive_and_not_ready(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        assert await running.health_status() == "NOT_SERVING"
        assert await running.health_status("liveness") == "SERVING"
        refused = await refusal(running.next_value.Predict(predict_request("demo", WINDOWS)))
        assert (refused.code, refused.details) == (
            grpc.StatusCode.NOT_FOUND,
            "model is 'demo'; the repository has: none",
        )


async def test_auto_without_torch_has_no_monitor(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    caplog.set_level("INFO")
    server = Server(make_config(models, reference="auto"))
    assert server.parity is None
    assert "torch is not installed" in caplog.text


@pytest.mark.parametrize("options", [{"reference": "off"}, {"reference": "auto", "parity_share": 0}])
async def test_a_monitor_that_is_switched_off(models: Path, options: dict[str, object]) -> None:
    assert Server(make_config(models, **options)).parity is None


# ---- as a process ----


def test_sigterm(models: Path, demo: Oracle, generator: np.random.Generator) -> None:
    """Readiness flips, liveness stays until the exit, admitted work is answered, new work is not taken; status 0."""
    windows = demo.random_windows(generator, 2000)
    with server_process(models, "--reference", "off") as process:
        process.await_ready()
        with grpc.insecure_channel(process.target, [("grpc.max_receive_message_length", -1)]) as channel:
            predict = channel.unary_unary(
                "/nextvalue.v1.NextValue/Predict",
                pb.PredictRequest.SerializeToString,
                pb.PredictResponse.FromString,
            )
            watch = channel.unary_stream(
                "/grpc.health.v1.Health/Watch",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                health_pb2.HealthCheckRequest.SerializeToString,
                health_pb2.HealthCheckResponse.FromString,
            )
            states = {
                service: watch(health_pb2.HealthCheckRequest(service=service))
                for service in ("", "readiness", "liveness")
            }
            for stream in states.values():
                assert next(stream).status == health_pb2.HealthCheckResponse.SERVING
            # Long enough to be under way when the signal comes: 4 runs of 512 windows, 1,000 times.
            request = predict_request("demo", windows, horizon=1000)
            request.windows.CopyFrom(pb.FloatArray(shape=windows.shape, raw_values=windows.tobytes()))
            admitted = predict.future(request, timeout=LIMIT_SECONDS)
            page = "nextvalue_batch_windows_count"
            while f'{page}{{model="demo"}} 0.0' in process.page() or page not in process.page():
                pass
            process.terminate()
            for service in ("", "readiness"):
                assert next(states[service]).status == health_pb2.HealthCheckResponse.NOT_SERVING
            live = check(health_pb2.HealthCheckRequest(service="liveness"))
            assert live.status == health_pb2.HealthCheckResponse.SERVING
            with pytest.raises(grpc.RpcError) as caught:
                predict(predict_request("demo", WINDOWS))
            assert caught.value.code() == UNAVAILABLE
            assert not admitted.done(), "the call was too short for this test"
            reply = admitted.result()
            found = np.frombuffer(reply.predictions.raw_values, "<f4").reshape(2000, 1000)
            demo.assert_right(found[:, :20].copy(), demo.predict(windows, 20))
            assert np.isfinite(found).all()
            with pytest.raises(grpc.RpcError):
                next(states["liveness"])  # no further state: the stream ends with the server
        assert process.wait() == 0
        assert "Traceback" not in process.log


def test_a_second_server_on_the_port_is_one_line(models: Path) -> None:
    with server_process(models, "--reference", "off") as first:
        first.await_ports()
        with server_process(models, "--reference", "off", "--grpc", first.target) as second:
            assert second.wait() == 1
            assert second.lines == [f"server: grpc is '{first.target}'; cannot listen there (is the port taken?)"], (
                second.log
            )
        with server_process(models, "--reference", "off", "--metrics", f"127.0.0.1:{first.metrics_port}") as third:
            assert third.wait() == 1
            assert third.lines == [
                f"server: metrics is '127.0.0.1:{first.metrics_port}'; cannot listen there: Address already in use"
            ], third.log


@pytest.mark.parametrize(
    ("options", "environ", "said"),
    [
        (["--models", "/no/such/folder"], {}, "server: models is '/no/such/folder'; there is no such folder"),
        (["--max-horizon", "0"], {}, "server: argument --max-horizon: 0 is not from 1 to"),
        (["--parity"], {}, "server: unrecognized arguments: --parity"),
        ([], {"NEXTVALUE_MODLES": "x"}, "server: environment variable NEXTVALUE_MODLES names no option"),
    ],
)
def test_a_start_that_fails_is_one_line(models: Path, options: list[str], environ: dict[str, str], said: str) -> None:
    with server_process(models, *options, environ=environ) as process:
        assert process.wait() == 1
        (line,) = process.lines
        assert line.startswith(said)
