"""What a client says of itself, and to whom."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from nextvalue import AsyncClient, Client, NextvalueError, Tls
from nextvalue.__main__ import main
from nextvalue.security import token_metadata
from tests.certificates import Authority
from tests.nextvalue.conftest import Connect
from tests.nextvalue.fake import FakeServer

TOKEN = "a-token-of-nobody"  # noqa: S105 (it is)
Capture = pytest.CaptureFixture[str]


async def test_the_token_goes_with_every_call(connect: Connect, fake: FakeServer) -> None:
    async with connect(fake.target, token=TOKEN, plaintext_token=True) as ask:
        await ask("predict", "demo", [1, 2, 3])
        await ask("models")
        await ask("health")
    assert fake.authorizations == [f"Bearer {TOKEN}"] * 3


async def test_without_one_nothing_goes(connect: Connect, fake: FakeServer) -> None:
    async with connect(fake.target) as ask:
        await ask("predict", "demo", [1, 2, 3])
    assert fake.authorizations == [None]


@pytest.mark.parametrize("client", [Client, AsyncClient])
async def test_a_token_is_not_sent_in_the_open(client: Callable[..., object], fake: FakeServer) -> None:
    with pytest.raises(ValueError, match="without tls") as caught:
        client(fake.target, token=TOKEN)
    assert TOKEN not in str(caught.value)


def test_a_socket_of_this_machine_is_not_in_the_open() -> None:
    metadata = (("authorization", f"Bearer {TOKEN}"),)
    found = token_metadata(TOKEN, target="unix:/run/nextvalue.sock", encrypted=False, plaintext_token=False)
    assert found == metadata
    assert token_metadata(TOKEN, target="a:1", encrypted=True, plaintext_token=False) == metadata
    assert token_metadata(None, target="a:1", encrypted=False, plaintext_token=False) is None


@pytest.mark.parametrize("token", ["", "two words", "line\n", "schlüssel", "\x00"])
def test_what_is_no_token(token: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        token_metadata(token, target="a:1", encrypted=True, plaintext_token=False)
    assert not token or token not in str(caught.value)


def test_a_certificate_and_its_key_come_together(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("client")
    for part in ({"certificate": pair.certificate}, {"key": pair.key}):
        with pytest.raises(ValueError, match="come together"):
            Tls(**part)
    assert isinstance(Tls(certificate=pair.certificate, key=pair.key).credentials(), grpc.ChannelCredentials)


def test_one_way_to_say_it() -> None:
    with pytest.raises(ValueError, match="both given"):
        Client("a:1", tls=True, credentials=grpc.ssl_channel_credentials())


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        Client("a:1", tls=Tls(ca="/nowhere/ca.pem"))


def command(fake: FakeServer, *options: str) -> int:
    return main(["health", "--target", fake.target, *options])


def test_the_command_takes_a_token_from_a_file_or_the_environment(
    fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("NEXTVALUE_TOKEN", "of-the-environment")
    assert command(fake, "--plaintext-token") == 0
    assert command(fake, "--plaintext-token", "--token-file", str(file)) == 0
    assert fake.authorizations == ["Bearer of-the-environment", f"Bearer {TOKEN}"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a token in the open": ({"--token-file": "token"}, "--plaintext-token"),
    "no such token": ({"--token-file": "nowhere"}, "No such file"),
    "no such authority": ({"--tls-ca": "nowhere"}, "No such file"),
    "half a certificate": ({"--tls-certificate": "token"}, "come together"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_usage_is_one_line_and_no_secret(
    what: str, fake: FakeServer, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("token").write_text(TOKEN)
    options, said = WRONG[what]
    with pytest.raises(SystemExit) as caught:
        command(fake, *(part for option in options.items() for part in option))
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert TOKEN not in err


def test_errors_do_not_repeat_the_token() -> None:
    with Client("127.0.0.1:1", token=TOKEN, plaintext_token=True) as client:
        with pytest.raises(NextvalueError) as caught:
            client.models(timeout_seconds=0.3)
        assert TOKEN not in f"{caught.value!r} {client!r}"
