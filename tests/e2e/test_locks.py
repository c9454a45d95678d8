"""A server with locks and the command, as a user starts both."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.certificates import Authority, token_entry, write_access
from tests.repository import shared_models
from tests.server.harness import LIMIT_SECONDS, ServerProcess, server_process

pytestmark = pytest.mark.e2e

TOKEN = "a-token-of-this-test"  # noqa: S105 (and of no other)


def ask(process: ServerProcess, *options: str, token: str = "") -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "nextvalue",
        *options[:1],
        "--target",
        process.target,
        "--timeout",
        "20",
        *options[1:],
    ]
    environ = os.environ | ({"NEXTVALUE_TOKEN": token} if token else {})
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS, env=environ)


def test_mutual_tls_and_a_token(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    models = shared_models(tmp_path_factory)
    authority = Authority(tmp_path)
    own, client = authority.issue("server"), authority.issue("client")
    access = write_access(tmp_path / "access.json", token_entry(TOKEN, models=["demo"]))
    locks = [
        "--tls-certificate",
        str(own.certificate),
        "--tls-key",
        str(own.key),
        "--tls-client-ca",
        str(authority.file),
    ]
    # What a client's shell has is no option of the server's.
    with server_process(
        models, *locks, "--access", str(access), "--reference", "off", environ={"NEXTVALUE_TOKEN": TOKEN}
    ) as process:
        process.await_ready()
        trust = ["--tls-ca", str(authority.file)]
        mutual = [*trust, "--tls-certificate", str(client.certificate), "--tls-key", str(client.key)]
        predict = ["predict", "--model", "demo", "--window", "45,46,47,48,49", "--json"]
        done = ask(process, *predict, *mutual, token=TOKEN)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["model"] == "demo"
        listed = ask(process, "models", *mutual, "--json", token=TOKEN)
        assert [model["name"] for model in json.loads(listed.stdout)["models"]] == ["demo"]
        for options, token, said in (
            ([*predict, *mutual], "", "UNAUTHENTICATED"),
            ([*predict, *mutual], "another", "UNAUTHENTICATED"),
            ([*predict[:2], "last", *predict[3:], *mutual], TOKEN, "PERMISSION_DENIED"),
            ([*predict, *trust], TOKEN, "UNAVAILABLE"),
            (predict, TOKEN, "--plaintext-token"),
            ([*predict, "--plaintext-token"], TOKEN, "UNAVAILABLE"),
        ):
            done = ask(process, *options, token=token)
            assert done.returncode != 0
            assert said in done.stderr, done.stderr
            assert TOKEN not in done.stderr + done.stdout
        process.terminate()
        assert process.wait() == 0
        assert TOKEN not in process.log
