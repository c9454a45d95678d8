"""A plaintext port of its own for probes, with grpc.health.v1 alone."""

from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nextvalue.v1 import nextvalue_pb2 as pb
from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub
from server.app import Server
from tests.server.group import group
from tests.server.harness import make_config, server_process

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def status(channel: grpc.aio.Channel, service: str) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    found: int = answer.status
    return found


async def test_health_and_nothing_else(models: Path) -> None:
    server = Server(make_config(models, health_listen="127.0.0.1:0"))
    await server.start()
    await server.loaded()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.health_port}") as channel:
        assert [await status(channel, service) for service in ("", "readiness", "liveness")] == [SERVING] * 3
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await NextValueStub(channel).ListModels(pb.ListModelsRequest(), timeout=30)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        reflect: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await reflect(b"", timeout=30)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await server.stop()


async def test_it_tells_of_the_drain_until_the_end(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe in the midst of a drain: alive, and not ready."""
    server = Server(make_config(models, health_listen="127.0.0.1:0"))
    await server.start()
    await server.loaded()
    seen = {}
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.health_port}") as channel:
        drain = server.predictor.drain

        async def looked_at() -> None:
            seen.update({service: await status(channel, service) for service in ("readiness", "liveness")})
            await drain()

        monkeypatch.setattr(server.predictor, "drain", looked_at)
        await server.stop()
        assert seen == {"readiness": NOT_SERVING, "liveness": SERVING}
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await status(channel, "liveness")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_port_that_is_taken(models: Path) -> None:
    with server_process(models, "--reference", "off", "--health-listen", "127.0.0.1:0") as first:
        first.await_ready()
        address = next(line for line in first.lines if "listening health=" in line).rpartition("health=")[2]
        with server_process(models, "--reference", "off", "--health-listen", address) as second:
            assert second.wait() == 1
            assert second.lines[-1] == (
                f"server: health-listen is '{address}'; cannot listen there (is the port taken?)"
            )
        options = ("--reference", "off", "--health-listen", "127.0.0.1:0", "--grpc", first.target)
        with server_process(models, *options) as third:
            assert third.wait() == 1
            assert third.lines[-1] == f"server: grpc is '{first.target}'; cannot listen there (is the port taken?)"


def test_workers_share_it(models: Path) -> None:
    with group(models, "--health-listen", "127.0.0.1:0") as process:
        process.await_line("ready")
        address = next(line for line in process.lines if "listening health=" in line).rpartition("health=")[2]
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for service in ("readiness", "liveness"):
                assert stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30).status == SERVING
        with group(models, "--health-listen", address) as second:
            assert second.wait() == 1
            assert second.lines[-1] == (
                f"server: health-listen is '{address}'; cannot listen there: Address already in use"
            )


async def test_none_is_the_default(models: Path) -> None:
    server = Server(make_config(models))
    await server.start()
    assert server.health_port == 0
    await server.loaded()
    await server.stop()
