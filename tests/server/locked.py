"""Servers with locks, and callers of all sorts."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from nextvalue.v1 import nextvalue_pb2 as pb
from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub
from server.app import Server
from tests.certificates import Authority, Pair, token_entry, write_access
from tests.server.harness import LIMIT_SECONDS, make_config

# A connection of its own for each channel.
OWN = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100)]
TRANSPORTS = ("http2", "grpcio")

OPERATOR, LIMITED, EXPIRED = "operator-token-0f3c", "limited-token-77aa", "expired-token-1b2d"


def bearer(token: str | None) -> tuple[tuple[str, str], ...] | None:
    return None if token is None else (("authorization", f"Bearer {token}"),)


@dataclass
class House:
    """A folder with an authority, a server's certificate and an access file."""

    folder: Path
    authority: Authority = field(init=False)
    pair: Pair = field(init=False)
    access: Path = field(init=False)

    def __post_init__(self) -> None:
        self.authority = Authority(self.folder)
        self.pair = self.authority.issue("server")
        self.access = write_access(
            self.folder / "access.json",
            token_entry(OPERATOR, name="operator", admin=True),
            token_entry(LIMITED, name="limited", models=["demo"]),
            token_entry(EXPIRED, name="expired", admin=True, expires="2020-01-01T00:00:00Z"),
        )

    @property
    def tls(self) -> dict[str, object]:
        """Options of a server with TLS."""
        return {"tls_certificate": self.pair.certificate, "tls_key": self.pair.key}

    @property
    def mutual(self) -> dict[str, object]:
        """Options of a server that wants certificates of this authority."""
        return self.tls | {"tls_client_ca": self.authority.file}

    def credentials(self, own: Pair | None = None, *, authority: Authority | None = None) -> grpc.ChannelCredentials:
        """A caller's, who trusts an authority and may have a certificate."""
        return grpc.ssl_channel_credentials(
            (authority or self.authority).file.read_bytes(),
            own.key.read_bytes() if own else None,
            own.certificate.read_bytes() if own else None,
        )


@asynccontextmanager
async def serving_with(models: Path, **options: object) -> AsyncIterator[Server]:
    """A server with these options, its models loaded."""
    server = Server(make_config(models, **options))
    await server.start()
    try:
        await server.loaded()
        yield server
    finally:
        await server.stop()


def channel_to(server: Server, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    target = f"127.0.0.1:{server.grpc_port}"
    if credentials is None:
        return grpc.aio.insecure_channel(target, OWN)
    return grpc.aio.secure_channel(target, credentials, OWN)


async def ask(channel: grpc.aio.Channel, token: str | None = None, *, timeout: float = LIMIT_SECONDS) -> list[str]:  # noqa: ASYNC109 (the call's)
    """The names that ListModels tells."""
    stub: Any = NextValueStub(channel)
    reply = await stub.ListModels(pb.ListModelsRequest(), timeout=timeout, metadata=bearer(token))
    return [model.name for model in reply.models]


async def code_of(
    server: Server, credentials: grpc.ChannelCredentials | None, token: str | None = None
) -> grpc.StatusCode:
    """How a call over a new connection ends."""
    async with channel_to(server, credentials) as channel:
        try:
            await ask(channel, token)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@contextmanager
def rewritten(path: Path, content: bytes) -> Iterator[None]:
    """For a while the file holds something else."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)
