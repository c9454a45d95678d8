"""Tokens and certificates on every call, over either transport."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nextvalue.v1 import nextvalue_pb2 as pb
from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub
from server.app import Server
from server.errors import StartupError
from server.pb import open_inference_pb2 as oip
from server.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.certificates import token_entry, write_access
from tests.server.harness import (
    Refusal,
    eventually,
    infer_request,
    make_config,
    predict_request,
    refusal,
    server_process,
)
from tests.server.locked import (
    EXPIRED,
    LIMITED,
    OPERATOR,
    TRANSPORTS,
    House,
    ask,
    bearer,
    channel_to,
    code_of,
    serving_with,
)

CODE = grpc.StatusCode
WINDOW = np.zeros((1, 5, 1), np.float32)
both = pytest.mark.parametrize("transport", TRANSPORTS)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def locked(house: House, transport: str, **others: object) -> dict[str, Any]:
    """Options of a server that asks for tokens; nothing is encrypted, which is told."""
    return {"transport": transport, "access": house.access, "plaintext_tokens": "on", "admin": "on"} | others


async def refused(call: Any) -> Refusal:
    return await refusal(call)


@both
async def test_who_may_and_who_may_not(models: Path, house: House, transport: str) -> None:
    async with serving_with(models, **locked(house, transport)) as server, channel_to(server, None) as channel:
        stub: Any = NextValueStub(channel)
        request = predict_request("demo", WINDOW)
        assert (await stub.Predict(request, metadata=bearer(LIMITED))).model == "demo"
        assert (await stub.Predict(request, metadata=(("authorization", f"bearer  {OPERATOR} "),))).model == "demo"
        for metadata, said in (
            (None, "no token"),
            (bearer("nobody"), "nobody has this token"),
            (bearer(""), "is not 'Bearer TOKEN'"),
            (bearer(EXPIRED), "expired"),
            ((("authorization", f"Basic {OPERATOR}"),), "is not 'Bearer TOKEN'"),
            ((("authorization", OPERATOR),), "is not 'Bearer TOKEN'"),
            ((*(bearer(OPERATOR) or ()), *(bearer(LIMITED) or ())), "more than once"),
            ((("x-authorization", f"Bearer {OPERATOR}"),), "no token"),
        ):
            found = await refused(stub.Predict(request, metadata=metadata))
            assert (found.code, said in found.details) == (CODE.UNAUTHENTICATED, True), found
            assert "token-" not in found.details
        found = await refused(stub.Predict(predict_request("last", WINDOW), metadata=bearer(LIMITED)))
        assert found.code is CODE.PERMISSION_DENIED
        # Whether there is such a model is nobody's business who may not ask it.
        other = await refused(stub.Predict(predict_request("none", WINDOW), metadata=bearer(LIMITED)))
        assert (other.code, other.details) == (found.code, found.details.replace("last", "none"))
        found = await refused(stub.Predict(predict_request("none", WINDOW), metadata=bearer(OPERATOR)))
        assert found.code is CODE.NOT_FOUND
        sample = server.metrics.registry.get_sample_value
        labels = {"rpc": "Predict", "version": ""}
        name = "nextvalue_requests_total"
        assert sample(name, labels | {"model": "_unknown", "code": "UNAUTHENTICATED"}) == 8
        assert sample(name, labels | {"model": "last", "code": "PERMISSION_DENIED"}) == 1
        assert sample(name, labels | {"model": "_unknown", "code": "PERMISSION_DENIED"}) == 1


@both
async def test_lists_show_what_is_ones_own(models: Path, house: House, transport: str) -> None:
    async with serving_with(models, **locked(house, transport)) as server, channel_to(server, None) as channel:
        everything = sorted(model.name for model in server.repository.models())
        assert await ask(channel, OPERATOR) == everything
        assert await ask(channel, LIMITED) == ["demo"]
        inference: Any = GRPCInferenceServiceStub(channel)
        for token, expected in ((OPERATOR, everything), (LIMITED, ["demo"])):
            reply = await inference.ModelStatistics(oip.ModelStatisticsRequest(), metadata=bearer(token))
            assert [each.name for each in reply.model_stats] == expected
        found = await refused(
            inference.ModelStatistics(oip.ModelStatisticsRequest(name="last"), metadata=bearer(LIMITED))
        )
        assert found.code is CODE.PERMISSION_DENIED


@both
async def test_the_repository_is_an_operators(models: Path, house: House, transport: str) -> None:
    async with serving_with(models, **locked(house, transport)) as server, channel_to(server, None) as channel:
        inference: Any = GRPCInferenceServiceStub(channel)
        for call, request in (
            (inference.RepositoryIndex, oip.RepositoryIndexRequest()),
            (inference.RepositoryModelLoad, oip.RepositoryModelLoadRequest(model_name="demo")),
            (inference.RepositoryModelUnload, oip.RepositoryModelUnloadRequest(model_name="demo")),
        ):
            assert (await refused(call(request))).code is CODE.UNAUTHENTICATED
            assert (await refused(call(request, metadata=bearer(LIMITED)))).code is CODE.PERMISSION_DENIED
            assert await call(request, metadata=bearer(OPERATOR)) is not None


async def test_an_operators_token_does_not_switch_on_what_is_off(models: Path, house: House) -> None:
    options = locked(house, "http2", admin="off")
    async with serving_with(models, **options) as server, channel_to(server, None) as channel:
        inference: Any = GRPCInferenceServiceStub(channel)
        request = oip.RepositoryModelLoadRequest(model_name="demo")
        assert (
            await refused(inference.RepositoryModelLoad(request, metadata=bearer(OPERATOR)))
        ).code is CODE.UNIMPLEMENTED


@both
async def test_a_stream_answers_for_each_request(models: Path, house: House, transport: str) -> None:
    """What one may not ask is refused by itself; the others are answered, in order."""
    async with serving_with(models, **locked(house, transport)) as server, channel_to(server, None) as channel:
        inference: Any = GRPCInferenceServiceStub(channel)

        async def requests() -> AsyncIterator[oip.ModelInferRequest]:
            for k, model in enumerate(("demo", "last", "demo")):
                request = infer_request(model, WINDOW)
                request.id = str(k)
                yield request

        stream = inference.ModelStreamInfer(requests(), metadata=bearer(LIMITED))
        answers = [answer async for answer in stream]
        assert [answer.infer_response.id for answer in answers] == ["0", "1", "2"]
        assert [bool(answer.error_message) for answer in answers] == [False, True, False]
        assert "model 'last'" in answers[1].error_message
        for metadata in (None, bearer(EXPIRED)):
            # Without requests: grpc.aio's client calls it internal when what it sends comes too late.
            stream = inference.ModelStreamInfer(metadata=metadata)
            assert await stream.code() is CODE.UNAUTHENTICATED


@both
async def test_a_stream_ends_when_its_token_is_taken_back(models: Path, house: House, transport: str) -> None:
    async with serving_with(models, **locked(house, transport)) as server, channel_to(server, None) as channel:
        assert server.locks.access is not None
        inference: Any = GRPCInferenceServiceStub(channel)
        stream = inference.ModelStreamInfer(metadata=bearer(LIMITED))
        await stream.write(infer_request("demo", WINDOW))
        assert not (await stream.read()).error_message
        write_access(house.access, token_entry(OPERATOR))
        assert server.locks.access.look()
        await stream.write(infer_request("demo", WINDOW))
        assert await stream.code() is CODE.UNAUTHENTICATED


@both
async def test_a_new_file_counts_and_a_bad_one_does_not(
    models: Path, house: House, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = locked(house, transport, reload_seconds=0.05)
    async with serving_with(models, **options) as server, channel_to(server, None) as channel:
        assert await ask(channel, LIMITED)
        write_access(house.access, token_entry("fresh"))
        assert server.locks.access is not None
        before = server.locks.access.value
        await eventually(lambda: server.locks.access is None or server.locks.access.value is not before, "the new")
        # The same connection, and headers that the server has seen before.
        found = await refused(NextValueStub(channel).ListModels(pb.ListModelsRequest(), metadata=bearer(LIMITED)))
        assert found.code is CODE.UNAUTHENTICATED
        assert await ask(channel, "fresh")
        house.access.write_text('{"tokens": [')
        await eventually(lambda: "access: what it was before stays in force" in caplog.text, "a complaint")
        assert await ask(channel, "fresh")


@both
async def test_a_token_expires_between_two_calls_alike(
    models: Path, house: House, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is remembered of a call's headers says that its token is still good."""
    write_access(house.access, token_entry("t", expires="2100-01-01T00:00:00Z"))
    now = [0.0]
    monkeypatch.setattr("server.transport.ports.Door", lambda access: Door(access, lambda: now[0]))
    from server.transport.guard import Door  # noqa: PLC0415 (the real one)

    async with serving_with(models, **locked(house, transport)) as server, channel_to(server, None) as channel:
        for _ in range(3):
            assert await ask(channel, "t")
        now[0] = 4102444800.0
        found = await refused(NextValueStub(channel).ListModels(pb.ListModelsRequest(), metadata=bearer("t")))
        assert (found.code, "expired" in found.details) == (CODE.UNAUTHENTICATED, True)


@both
async def test_names_in_certificates(models: Path, house: House, transport: str) -> None:
    write_access(
        house.access,
        token_entry(OPERATOR),
        certificates=[
            {"name": "spiffe://example/a", "models": ["demo"]},
            {"name": "plain-name", "models": "*"},
        ],
    )
    options = locked(house, transport, plaintext_tokens="off") | house.mutual
    issue = house.authority.issue
    async with serving_with(models, **options) as server:
        known = house.credentials(issue("client", uri="spiffe://example/a"))
        async with channel_to(server, known) as channel:
            assert await ask(channel) == ["demo"]
            # A token says more than a certificate, and a bad one is bad.
            assert len(await ask(channel, OPERATOR)) > 1
        assert await code_of(server, known, "nobody") is CODE.UNAUTHENTICATED
        assert await code_of(server, house.credentials(issue("plain-name", common_name_only=True))) is CODE.OK
        stranger = house.credentials(issue("client", uri="spiffe://example/b"))
        assert await code_of(server, stranger) is CODE.UNAUTHENTICATED
        assert await code_of(server, stranger, OPERATOR) is CODE.OK


@both
async def test_health_and_reflection_want_to_know_too(models: Path, house: House, transport: str) -> None:
    async with serving_with(models, **locked(house, transport)) as server, channel_to(server, None) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        assert (await refused(stub.Check(request))).code is CODE.UNAUTHENTICATED
        reply = await stub.Check(request, metadata=bearer(LIMITED))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(request, metadata=bearer(LIMITED))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


async def test_a_strangers_message_is_not_kept(models: Path, house: House) -> None:
    """It is refused by its headers, over http2, and its connection goes on."""
    async with serving_with(models, **locked(house, "http2")) as server, channel_to(server, None) as channel:
        large = predict_request("demo", np.zeros((500_000, 5, 1), np.float32))
        stub: Any = NextValueStub(channel)
        for _ in range(5):
            assert (await refused(stub.Predict(large))).code is CODE.UNAUTHENTICATED
        assert await ask(channel, LIMITED) == ["demo"]


def outcome(stub: NextValueStub, request: pb.PredictRequest, token: str) -> str:
    """All that a call says."""
    call = stub.Predict.future(request, metadata=bearer(token))
    return f"{call.details()} {call.trailing_metadata()}"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_secret_is_in_a_log(models: Path, house: House, transport: str) -> None:
    """At debug, with tokens good and bad, calls that fail, and a file that holds what it should not."""
    options = ["--transport", transport, "--log-level", "debug", "--access", str(house.access)]
    options += ["--tls-certificate", str(house.pair.certificate), "--tls-key", str(house.pair.key)]
    with server_process(models, *options, "--reload-seconds", "0.1", "--reference", "off") as process:
        process.await_ready()
        with grpc.secure_channel(process.target, house.credentials()) as channel:
            stub = NextValueStub(channel)
            for token in (OPERATOR, LIMITED, EXPIRED, "unknown-token-5e6f"):
                for request in (predict_request("demo", WINDOW), predict_request("none", WINDOW), pb.PredictRequest()):
                    assert token not in outcome(stub, request, token)
        house.access.write_text(json.dumps({"tokens": [{"name": "a", "models": "*", "sha256": OPERATOR}]}))
        process.await_line("access: what it was before stays in force")
        process.terminate()
        assert process.wait() == 0
        key = house.pair.key.read_text().splitlines()[1]
        for secret in (OPERATOR, LIMITED, EXPIRED, "unknown-token-5e6f", key):
            assert secret not in process.log
        assert "Bearer" not in process.log


STARTS = {
    "tokens in the open": ({}, "--plaintext-tokens on"),
    "no such file": ({"access": "/nowhere/access.json"}, "access is '/nowhere/access.json'"),
    "no file": ({"access": "/dev/null", "plaintext_tokens": "on"}, "access is '/dev/null'"),
}


@pytest.mark.parametrize("what", STARTS)
def test_a_bad_start_is_one_line(models: Path, house: House, what: str) -> None:
    options, said = STARTS[what]
    with pytest.raises(StartupError) as caught:
        Server(make_config(models, **({"access": house.access} | options)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_of_certificates_need_somebody_who_asks_for_them(models: Path, house: House) -> None:
    write_access(house.access, certificates=[{"name": "a", "models": "*"}])
    with pytest.raises(StartupError, match="tls-client-ca"):
        Server(make_config(models, access=house.access, **house.tls))


def test_without_locks_handlers_are_served_as_they_are(models: Path) -> None:
    """Nothing is between a call and its handler: the way that is measured."""
    server = Server(make_config(models))
    assert (server.locks.tls, server.locks.access) == (None, None)
