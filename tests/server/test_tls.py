"""TLS and mutual TLS on the serving port, over either transport; certificates that change."""

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nextvalue import Client, RetryPolicy, Tls, Unavailable
from server.app import Server
from server.doors.certificates import Files
from server.errors import StartupError
from server.http2.listener import Http2Server
from tests.certificates import Authority
from tests.server.group import group
from tests.server.harness import LIMIT_SECONDS, POLL_SECONDS, eventually, eventually_sync, make_config, server_process
from tests.server.locked import (
    OPERATOR,
    OWN,
    TRANSPORTS,
    House,
    ask,
    bearer,
    channel_to,
    code_of,
    rewritten,
    serving_with,
)

CODE = grpc.StatusCode
both = pytest.mark.parametrize("transport", TRANSPORTS)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@both
async def test_tls(models: Path, house: House, transport: str) -> None:
    async with serving_with(models, transport=transport, **house.tls) as server:
        assert await code_of(server, house.credentials()) is CODE.OK
        other = Authority(house.folder, "other")
        assert await code_of(server, house.credentials(authority=other)) is CODE.UNAVAILABLE
        assert await code_of(server, None) is CODE.UNAVAILABLE
        # Nobody who came to nothing is in the way of those who follow.
        assert await code_of(server, house.credentials()) is CODE.OK


@both
async def test_mutual_tls(models: Path, house: House, transport: str) -> None:
    async with serving_with(models, transport=transport, **house.mutual) as server:
        other = Authority(house.folder, "other")
        assert await code_of(server, house.credentials(house.authority.issue("client"))) is CODE.OK
        for own in (None, other.issue("client"), house.authority.issue("client", expired=True)):
            assert await code_of(server, house.credentials(own)) is CODE.UNAVAILABLE


@both
async def test_a_refused_handshake_is_unavailable_within_the_callers_time(
    models: Path, house: House, transport: str
) -> None:
    """It is retried like any that cannot be reached, and not beyond the deadline."""
    async with serving_with(models, transport=transport, **house.mutual) as server:

        def call() -> float:
            with Client(f"127.0.0.1:{server.grpc_port}", tls=Tls(ca=house.authority.file)) as client:
                started = time.monotonic()
                with pytest.raises(Unavailable):
                    client.models(timeout_seconds=20)
                return time.monotonic() - started

        assert await asyncio.to_thread(call) < 20


@both
async def test_new_certificates_serve_new_connections_and_old_connections_live_on(
    models: Path, house: House, transport: str
) -> None:
    options = {"transport": transport, "reload_seconds": 0.05} | house.tls
    async with serving_with(models, **options) as server, channel_to(server, house.credentials()) as old:
        await ask(old)
        other = Authority(house.folder, "other")
        fresh = other.issue("server")
        # One after the other, as a person copies them; in between they do not fit.
        house.pair.key.write_bytes(fresh.key.read_bytes())
        assert await code_of(server, house.credentials()) is CODE.OK
        house.pair.certificate.write_bytes(fresh.certificate.read_bytes())
        await until(server, house.credentials(authority=other), CODE.OK)
        assert await code_of(server, house.credentials()) is CODE.UNAVAILABLE
        await ask(old)


@both
async def test_a_bad_certificate_keeps_the_old(
    models: Path, house: House, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving_with(models, transport=transport, **house.tls) as server:
        assert server.locks.tls is not None
        whole = house.pair.certificate.read_bytes()
        for content in (b"", whole[: len(whole) // 2], b"-----BEGIN CERTIFICATE-----\n", house.pair.key.read_bytes()):
            with rewritten(house.pair.certificate, content):
                assert not server.locks.tls.look()
                assert await code_of(server, house.credentials()) is CODE.OK
        assert caplog.text.count("certificates: what it was before stays in force") == 4
        assert "PRIVATE KEY" not in caplog.text


@both
async def test_authorities_of_callers_change_too(models: Path, house: House, transport: str) -> None:
    async with serving_with(models, transport=transport, reload_seconds=0.05, **house.mutual) as server:
        other = Authority(house.folder, "other")
        mine, theirs = (house.credentials(authority.issue("client")) for authority in (house.authority, other))
        assert await code_of(server, theirs) is CODE.UNAVAILABLE
        house.authority.file.write_bytes(other.file.read_bytes())
        await until(server, theirs, CODE.OK)
        assert await code_of(server, mine) is CODE.UNAVAILABLE


async def until(server: Server, credentials: grpc.ChannelCredentials, code: grpc.StatusCode) -> None:
    """Call over new connections until one ends so."""
    give_up = time.monotonic() + LIMIT_SECONDS
    while await code_of(server, credentials) is not code:
        assert time.monotonic() < give_up, f"never {code}"
        await asyncio.sleep(POLL_SECONDS)


async def test_probes_need_no_tls(models: Path, house: House) -> None:
    async with (
        serving_with(models, health_listen="127.0.0.1:0", **house.mutual) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.health_port}") as channel,
    ):
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_who_agrees_on_no_http2_is_sent_away(models: Path, house: House) -> None:
    context = ssl.create_default_context(cafile=str(house.authority.file))
    async with serving_with(models, transport="http2", **house.tls) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.grpc_port, ssl=context, server_hostname="127.0.0.1"
        )
        said = await asyncio.wait_for(reader.read(), LIMIT_SECONDS)
        assert b"without ALPN" in said
        writer.close()


@both
async def test_who_says_nothing_is_not_waited_for(models: Path, house: House, transport: str) -> None:
    options = {"transport": transport, "tls_handshake_seconds": 0.2} | house.tls
    async with serving_with(models, **options) as server:
        with socket.create_connection(("127.0.0.1", server.grpc_port)) as silent:
            silent.setblocking(False)
            loop = asyncio.get_running_loop()
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(loop.sock_recv(silent, 100), LIMIT_SECONDS) == b""


def test_old_protocols_are_not_spoken(house: House) -> None:
    context = Files(house.pair.certificate, house.pair.key).context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_a_process_takes_new_certificates(models: Path, house: House) -> None:
    """As a user starts it: on the loop in C, where there is one."""
    options = ["--tls-certificate", str(house.pair.certificate), "--tls-key", str(house.pair.key)]
    other = Authority(house.folder, "other")
    fresh = other.issue("server")

    def answers(authority: Authority) -> bool:
        with Client(process.target, tls=Tls(ca=authority.file), retry=RetryPolicy(max_attempts=1)) as client:
            try:
                return bool(client.models())
            except Unavailable:
                return False

    with server_process(models, *options, "--reload-seconds", "0.1", "--reference", "off") as process:
        process.await_ready()
        assert answers(house.authority)
        with Client(process.target, tls=Tls(ca=house.authority.file)) as old:
            assert old.models()
            house.pair.key.write_bytes(fresh.key.read_bytes())
            process.await_line("certificates: what it was before stays in force")
            assert answers(house.authority)
            house.pair.certificate.write_bytes(fresh.certificate.read_bytes())
            process.await_line("certificates: read again")
            eventually_sync(lambda: answers(other), "the new certificate")
            assert not answers(house.authority)
            assert old.models()
        process.terminate()
        assert process.wait() == 0
        assert "Traceback" not in process.log


@both
def test_workers_have_the_same_locks(models: Path, house: House, transport: str) -> None:
    options = ["--tls-certificate", str(house.pair.certificate), "--tls-key", str(house.pair.key)]
    with group(models, "--transport", transport, *options, "--access", str(house.access)) as process:
        process.await_ready()
        for token, code in ((OPERATOR, CODE.OK), (None, CODE.UNAUTHENTICATED)):
            for _ in range(4):  # as many connections, spread over both
                with grpc.secure_channel(process.target, house.credentials(), OWN) as channel:
                    check = health_pb2_grpc.HealthStub(channel).Check
                    call = check.future(health_pb2.HealthCheckRequest(), timeout=30, metadata=bearer(token))
                    assert call.code() is code


STARTS: dict[str, tuple[dict[str, object], str]] = {
    "no key": ({"tls_key": None}, "tls-key is not given"),
    "no certificate": ({"tls_certificate": None}, "tls-certificate is not given"),
    "no such file": ({"tls_certificate": "/nowhere/tls.crt"}, "/nowhere/tls.crt"),
    "callers' authorities alone": (
        {"tls_certificate": None, "tls_key": None, "tls_client_ca": "x"},
        "tls-client-ca is given without tls-certificate",
    ),
    "authorities that are none": ({"tls_client_ca": "/dev/null"}, "/dev/null"),
}


@pytest.mark.parametrize("what", STARTS)
def test_what_does_not_go_together_stops_the_start_in_one_line(models: Path, house: House, what: str) -> None:
    options, said = STARTS[what]
    with pytest.raises(StartupError) as caught:
        Server(make_config(models, **(house.tls | options)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_of_another_certificate_stops_the_start(models: Path, house: House) -> None:
    with pytest.raises(StartupError, match="belong together"):
        Server(make_config(models, **(house.tls | {"tls_key": house.authority.issue("other").key})))


async def test_connections_count_from_their_first_moment_on(models: Path, house: House) -> None:
    """Silent ones take the places of their address, until their time for TLS is over."""
    options = {"transport": "http2", "max_connections_per_peer": 2, "tls_handshake_seconds": 0.3} | house.tls
    async with serving_with(models, **options) as server:
        assert isinstance(server._grpc, Http2Server)
        taken, loop = server._grpc.places.taken, asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(socket.create_connection(("127.0.0.1", server.grpc_port))) for _ in range(2)]
            await eventually(lambda: taken["127.0.0.1"] == 2, "both")
            with socket.create_connection(("127.0.0.1", server.grpc_port)) as third:
                third.setblocking(False)
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(loop.sock_recv(third, 1), LIMIT_SECONDS) == b""
                assert taken["127.0.0.1"] == 2
            for each in silent:
                each.setblocking(False)
                with contextlib.suppress(ConnectionResetError):
                    while await asyncio.wait_for(loop.sock_recv(each, 100), LIMIT_SECONDS):
                        pass
            await eventually(lambda: not taken, "all places")
            assert await code_of(server, house.credentials()) is CODE.OK
        await eventually(lambda: not taken, "the end of the call's connection")


async def test_callers_who_give_up_during_the_handshake_leave_nothing(models: Path, house: House) -> None:
    options = {"transport": "http2", "max_connections_per_peer": 4} | house.tls
    async with serving_with(models, **options) as server:
        assert isinstance(server._grpc, Http2Server)
        taken = server._grpc.places.taken
        for sent in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.grpc_port)) as caller:
                await eventually(lambda: taken["127.0.0.1"] == 1, "a place")
                caller.sendall(sent)
            await eventually(lambda: "127.0.0.1" not in taken, "no place")
        assert await code_of(server, house.credentials()) is CODE.OK


async def test_a_machine_without_room_for_connections_accepts_again(
    models: Path, house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.http2.acceptor.PAUSE_SECONDS", 0.05)
    refusals = [OSError(errno.EMFILE, "Too many open files")] * 3
    accept = socket.socket.accept

    def accept_or_not(listening: socket.socket) -> tuple[socket.socket, object]:
        if refusals:
            raise refusals.pop()
        return accept(listening)

    async with serving_with(models, transport="http2", **house.tls) as server:
        monkeypatch.setattr(socket.socket, "accept", accept_or_not)
        assert await code_of(server, house.credentials()) is CODE.OK
    assert not refusals
    assert caplog.text.count("no connection is accepted for 0.05 s: [Errno 24] Too many open files") == 3
