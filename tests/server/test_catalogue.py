"""What the server says about itself: models, metadata, health, reflection."""

from collections import Counter
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from nextvalue.v1 import nextvalue_pb2 as pb
from server.pb import open_inference_pb2 as oip
from server.session import Session
from server.transport.open_inference import SERVER_VERSION
from tests.server.harness import Running, refusal, serving
from tests.server.oracle import Oracle

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_list_models(running: Running) -> None:
    reply = await running.next_value.ListModels(pb.ListModelsRequest())
    assert [model.name for model in reply.models] == ["covariates", "demand", "demo", "last", "windowed"]
    for model in reply.models:
        assert model.default_version == 1
        (version,) = model.versions
        assert (version.version, version.state, version.reason) == (1, pb.ModelVersion.STATE_SERVING, "")
    assert running.requests("ListModels", "OK", "") == 1


async def test_get_model(running: Running) -> None:
    before = running.requests("GetModel", "OK", "covariates")
    model = await running.next_value.GetModel(pb.GetModelRequest(model="covariates"))
    assert model.versions[0].description == pb.ModelDescription(
        cell="gru",
        hidden_size=6,
        num_layers=2,
        window=4,
        features=["load", "temperature", "holiday"],
        transform="standardize",
        max_horizon=1024,
        stateful=True,
        provider="CPUExecutionProvider",
        direct_horizon=1,
        scaling="fit",
        transition_depth=1,
        output_depth=1,
    )
    assert running.requests("GetModel", "OK", "covariates") == before + 1


async def test_all_that_a_model_may_have_is_described(running: Running) -> None:
    model = await running.next_value.GetModel(pb.GetModelRequest(model="demand"))
    assert model.versions[0].description == pb.ModelDescription(
        cell="gru",
        hidden_size=6,
        num_layers=2,
        window=6,
        features=["sales", "price"],
        transform="difference",
        max_horizon=1024,
        stateful=True,
        provider="CPUExecutionProvider",
        direct_horizon=3,
        calendar=["day", "week"],
        scaling="series",
        num_series=3,
        intervals="normalized",
        levels=[0.5, 0.9],
        transition_depth=2,
        residual=True,
        output_depth=2,
        linear_skip=False,
    )


async def test_a_model_without_a_step_graph_says_so(running: Running) -> None:
    model = await running.next_value.GetModel(pb.GetModelRequest(model="last"))
    assert not model.versions[0].description.stateful


async def test_model_metadata(running: Running, oracles: dict[str, Oracle]) -> None:
    for name, oracle in oracles.items():
        reply = await running.inference.ModelMetadata(oip.ModelMetadataRequest(name=name))
        assert (reply.name, list(reply.versions), reply.platform) == (name, ["1"], "onnxruntime_onnx")
        inputs, outputs = (
            {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in tensors}
            for tensors in (reply.inputs, reply.outputs)
        )
        expected = {"window": ("FP32", [-1, oracle.window, oracle.num_features])}
        if name == "demand":
            expected |= {"time_seconds": ("INT64", [-1, 6]), "series": ("INT64", [-1, 1])}
        assert inputs == expected
        num_ahead, num_levels = {"demand": (3, 2), "windowed": (2, 1)}.get(name, (1, 0))
        expected = {"next": ("FP32", [-1, num_ahead])}
        if num_levels:
            expected |= {end: ("FP32", [-1, num_ahead, num_levels]) for end in ("lower", "upper")}
        assert outputs == expected


async def test_server_metadata_live_and_ready(running: Running) -> None:
    metadata = await running.inference.ServerMetadata(oip.ServerMetadataRequest())
    assert (metadata.name, metadata.version) == ("nextvalue", SERVER_VERSION)
    assert (await running.inference.ServerLive(oip.ServerLiveRequest())).live
    assert (await running.inference.ServerReady(oip.ServerReadyRequest())).ready


@pytest.mark.parametrize(
    ("name", "version", "ready"), [("demo", "", True), ("demo", "1", True), ("demo", "2", False), ("nobody", "", False)]
)
async def test_model_ready(running: Running, name: str, version: str, ready: bool) -> None:
    """An unknown model is not ready, and that is an answer, not an error."""
    reply = await running.inference.ModelReady(oip.ModelReadyRequest(name=name, version=version))
    assert reply.ready is ready


@pytest.mark.parametrize("service", ["", "readiness", "liveness"])
async def test_health(running: Running, service: str) -> None:
    assert await running.health_status(service) == "SERVING"
    watch = running.health.Watch(health_pb2.HealthCheckRequest(service=service))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


async def test_health_of_a_service_nobody_has(running: Running) -> None:
    refused = await refusal(running.health.Check(health_pb2.HealthCheckRequest(service="nobody")))
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_every_service(running: Running) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = (await call.read()).list_services_response.service
    await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="nextvalue.v1.NextValue"))
    described = (await call.read()).file_descriptor_response.file_descriptor_proto
    call.cancel()
    assert {service.name for service in listed} == {
        "nextvalue.v1.NextValue",
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert any(b"PredictRequest" in file for file in described)


async def test_the_page_says_what_is_served_where(running: Running, oracles: dict[str, Oracle]) -> None:
    for name, oracle in oracles.items():
        provider = {"provider": "CPUExecutionProvider"}
        where = {"model": name, "version": "1"}
        assert running.sample("nextvalue_model_info", cell=oracle.manifest.cell, **where, **provider) == 1
        assert running.sample("nextvalue_graph_nodes", **where, **provider) > 0
        registry = running.server.metrics.registry
        assert registry.get_sample_value("nextvalue_graph_nodes_elsewhere", {**where, **provider}) == 0


async def test_nodes_that_run_elsewhere_are_on_the_page(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where onnxruntime lets a node fall back to the CPU without a word."""
    right = Session.nodes_by_provider
    monkeypatch.setattr(Session, "nodes_by_provider", lambda session: right(session) + Counter({"Elsewhere": 2}))
    async with serving(models) as running:
        where = {"model": "demo", "version": "1", "provider": "CPUExecutionProvider"}
        assert running.sample("nextvalue_graph_nodes_elsewhere", **where) == 2
        assert running.sample("nextvalue_graph_nodes", model="demo", version="1", provider="Elsewhere") == 2


async def test_model_config(running: Running, oracles: dict[str, Oracle]) -> None:
    """What load generators make requests from: extents without the batch's, and how many windows share a run."""
    for name, oracle in oracles.items():
        config = (await running.inference.ModelConfig(oip.ModelConfigRequest(name=name))).config
        assert (config.name, config.platform, config.backend) == (name, "onnxruntime_onnx", "onnxruntime")
        assert config.max_batch_size == running.server.config.max_batch_windows > 0
        assert list(config.version_policy.specific.versions) == [1]
        assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
        assert config.HasField("model_transaction_policy")
        assert not config.model_transaction_policy.decoupled
        metadata = await running.inference.ModelMetadata(oip.ModelMetadataRequest(name=name))
        kinds = {oip.TYPE_FP32: "FP32", oip.TYPE_INT64: "INT64"}
        for described, configured in ((metadata.inputs, config.input), (metadata.outputs, config.output)):
            assert [(each.name, each.datatype, list(each.shape)) for each in described] == [
                (each.name, kinds[each.data_type], [-1, *each.dims]) for each in configured
            ]
        assert list(config.input[0].dims) == [oracle.window, oracle.num_features]


async def test_model_config_of_nobody(running: Running) -> None:
    for request in (oip.ModelConfigRequest(name="nobody"), oip.ModelConfigRequest(name="demo", version="2")):
        assert (await refusal(running.inference.ModelConfig(request))).code == grpc.StatusCode.NOT_FOUND
