"""An operator's call arrives at one worker; when it is answered, all have switched."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub
from server.pb import open_inference_pb2 as oip
from server.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.server.group import await_replaced, connections, group, total, workers_of
from tests.server.harness import LIMIT_SECONDS, ServerProcess, eventually_sync, predict_request
from tests.server.test_repository import flip, publish_version

WINDOW = np.zeros((1, 5, 1), np.float32)
# So many connections miss one of two workers once in 2**11 runs; then the test says less, and still passes.
MANY = 12


@pytest.fixture
def own_models(models: Path, tmp_path: Path) -> Path:
    for name in ("demo", "last"):
        shutil.copytree(models / name, tmp_path / "models" / name)
    return tmp_path / "models"


@pytest.fixture
def pair(own_models: Path) -> Iterator[ServerProcess]:
    with group(own_models, "--admin", "on") as process:
        process.await_ready()
        yield process


def change(channel: grpc.Channel, action: str, name: str) -> None:
    stub = GRPCInferenceServiceStub(channel)
    if action == "load":
        stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name=name), timeout=LIMIT_SECONDS)
    else:
        stub.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name=name), timeout=LIMIT_SECONDS)


def answering(channels: list[grpc.Channel]) -> set[object]:
    """The versions that answer, and the statuses of those calls that are not."""
    found: set[object] = set()
    for channel in channels:
        try:
            found.add(NextValueStub(channel).Predict(predict_request("demo", WINDOW), timeout=LIMIT_SECONDS).version)
        except grpc.RpcError as error:
            found.add(error.code())
    return found


def status(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details() or ""


def test_all_switch_at_once(pair: ServerProcess, own_models: Path) -> None:
    with connections(pair.target, MANY) as channels:
        assert answering(channels) == {1}
        publish_version(own_models, 2)
        for version in (1, 2):
            assert total(pair, "nextvalue_model_info", model="demo", version=str(version)) == (version == 1)
        change(channels[0], "load", "demo")
        assert answering(channels) == {2}
        assert total(pair, "nextvalue_model_info", model="demo", version="2") == 1
        assert total(pair, "nextvalue_model_info", model="demo", version="1") == 0, "dropped: at 0, for it cannot go"
        assert total(pair, "nextvalue_graph_nodes", model="demo", version="1") == 0

        change(channels[1], "unload", "demo")
        assert answering(channels) == {grpc.StatusCode.NOT_FOUND}
        assert total(pair, "nextvalue_model_info", model="demo") == 0

        # A worker that starts later does not serve what an operator has let go.
        workers_of(pair)[0].kill()
        await_replaced(pair, 1)
    with connections(pair.target, MANY) as channels:
        assert answering(channels) == {grpc.StatusCode.NOT_FOUND}
        change(channels[0], "load", "demo")
        assert answering(channels) == {2}
        assert total(pair, "nextvalue_model_info", model="demo") == 1


def test_errors_are_those_of_a_single_server(pair: ServerProcess, own_models: Path) -> None:
    with connections(pair.target, MANY) as channels:
        code, details = status(lambda: change(channels[0], "load", "nobody"))
        assert code is grpc.StatusCode.NOT_FOUND
        assert details.startswith("model is 'nobody'; ")
        code, details = status(lambda: change(channels[0], "unload", "x" * 2_000_000))
        assert code is grpc.StatusCode.NOT_FOUND
        assert len(details) < 500
        flip(publish_version(own_models, 2) / "window.onnx")
        code, details = status(lambda: change(channels[0], "load", "demo"))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert details.startswith("model 'demo' was not loaded whole; versions that serve: 1; version 2: ")
        assert answering(channels) == {1}


def test_one_that_starts_later_and_finds_more_takes_all_along(pair: ServerProcess, own_models: Path) -> None:
    """No answer depends on the worker that a caller happens to have."""
    publish_version(own_models, 2)
    workers_of(pair)[0].kill()
    await_replaced(pair, 1)
    pair.await_line("model demo: workers found it in different states; all load it again")
    with connections(pair.target, MANY) as channels:
        eventually_sync(lambda: answering(channels) == {2}, "all to switch")
