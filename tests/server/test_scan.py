"""Every method of every service on every port, as a stranger finds them: none is open but health on its own port."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from nextvalue.v1 import nextvalue_pb2
from server.app import Server
from server.pb import open_inference_pb2
from server.transport.rules import OPERATOR as OPERATORS
from server.transport.rules import RULES, rule_of
from tests.server.harness import LIMIT_SECONDS
from tests.server.locked import EXPIRED, LIMITED, OPERATOR, TRANSPORTS, House, bearer, channel_to, serving_with

CODE = grpc.StatusCode
FILES: tuple[FileDescriptor, ...] = (
    nextvalue_pb2.DESCRIPTOR,
    open_inference_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
)
FOREIGN = "last"


def methods() -> Iterator[MethodDescriptor]:
    for file in FILES:
        for service in file.services_by_name.values():
            yield from service.methods


METHODS = {f"/{method.containing_service.full_name}/{method.name}": method for method in methods()}


async def code_of(
    channel: grpc.aio.Channel, path: str, message: bytes, token: str | None, *, writes: bool = False
) -> grpc.StatusCode:
    """How a call with one message ends; a stream is left after its first answer."""
    method = METHODS[path]
    metadata = bearer(token)
    call: Any
    if method.client_streaming:
        stream: Any = channel.stream_stream(path)(metadata=metadata, timeout=LIMIT_SECONDS)
        # To a stream that has ended nothing is written: grpc.aio's client calls that internal.
        if writes:
            await stream.write(message)
    elif method.server_streaming:
        call = channel.unary_stream(path)
        stream = call(message, metadata=metadata, timeout=LIMIT_SECONDS)
    else:
        call = channel.unary_unary(path)
        code: grpc.StatusCode = await call(message, metadata=metadata, timeout=LIMIT_SECONDS).code()
        return code
    found: Any
    try:
        found = await stream.read()
    except grpc.aio.AioRpcError as error:
        return error.code()
    if found is grpc.aio.EOF:
        found = await stream.code()
        assert isinstance(found, grpc.StatusCode)
        return found
    stream.cancel()
    return CODE.OK


def about(path: str, model: str) -> bytes:
    """A request that names a model, where the method's requests do."""
    rule = rule_of(*path[1:].split("/"))
    message = GetMessageClass(METHODS[path].input_type)()
    if rule.model:
        setattr(message, rule.model, model)
    return message.SerializeToString()


def test_every_method_has_a_rule_and_every_rule_a_method() -> None:
    named = {f"/{service}/{method}" for service, rules in RULES.items() for method in rules}
    assert set(METHODS) <= named
    # The package of health that is pinned may be older than the method.
    assert named - set(METHODS) <= {"/grpc.health.v1.Health/List"}


def test_what_has_no_rule_is_an_operators() -> None:
    assert rule_of("nextvalue.v1.NextValue", "Track") is OPERATORS
    assert rule_of("someone.Else", "Predict") is OPERATORS


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stranger_finds_every_door_closed(models: Path, tmp_path: Path, transport: str) -> None:
    house = House(tmp_path)
    options = {"transport": transport, "access": house.access, "health_listen": "127.0.0.1:0", "admin": "on"}
    async with serving_with(models, **options, **house.tls) as server:
        async with channel_to(server, house.credentials()) as channel:
            served = await by_reflection(channel)
            assert served == set(METHODS), "reflection tells of others than are scanned here"
            for path in METHODS:
                for message in (b"", about(path, "demo"), b"\xff\xff\xff"):
                    for token in (None, "nobody", EXPIRED):
                        found = await code_of(channel, path, message, token)
                        assert found is CODE.UNAUTHENTICATED, f"{path} is open: {found}"
        await scan_others(server)


async def by_reflection(channel: grpc.aio.Channel) -> set[str]:
    """All methods that the server says it has, to who may ask."""
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    stream: Any = channel.stream_stream(path)(metadata=bearer(LIMITED), timeout=LIMIT_SECONDS)
    await stream.write(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())
    reply = reflection_pb2.ServerReflectionResponse.FromString(await stream.read())
    stream.cancel()
    services = {service.name for service in reply.list_services_response.service}
    return {path for path, method in METHODS.items() if method.containing_service.full_name in services} | {
        f"/{service}/*" for service in services - {method.containing_service.full_name for method in METHODS.values()}
    }


async def scan_others(server: Server) -> None:
    """The health port has health and nothing else, the metrics port no gRPC, the main port nothing unencrypted."""
    for port, open_paths in (
        (server.health_port, {path for path in METHODS if path.startswith("/grpc.health.v1.Health/")}),
        (server.metrics_port, set()),
        (server.grpc_port, set()),
    ):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for path in METHODS:
                found = await code_of(channel, path, b"", OPERATOR)
                if path in open_paths:
                    assert found in {CODE.OK, CODE.NOT_FOUND}
                else:
                    assert found in {CODE.UNIMPLEMENTED, CODE.UNAVAILABLE}, f"{path} on port {port}: {found}"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_is_known_finds_only_his_own(models: Path, tmp_path: Path, transport: str) -> None:
    house = House(tmp_path)
    options = {"transport": transport, "access": house.access, "admin": "on"}
    async with (
        serving_with(models, **options, **house.tls) as server,
        channel_to(server, house.credentials()) as channel,
    ):
        for path, method in METHODS.items():
            rule = rule_of(*path[1:].split("/"))
            found = await code_of(channel, path, about(path, FOREIGN), LIMITED, writes=True)
            if method.client_streaming:
                assert found is CODE.OK, "a stream answers for each of its requests"
            elif rule.admin or rule.model:
                assert found is CODE.PERMISSION_DENIED, path
            else:
                assert found is CODE.OK, path
