"""Several workers that cannot start: one line, a status, and nothing left behind."""

import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from server.supervisor.restarts import MAX_FAILED_STARTS
from tests.server.group import descendants, gone, group, workers_of
from tests.server.harness import server_process
from tests.server.test_repository import flip

# Imported by every interpreter that finds it: no worker lives long enough to say anything.
DIES_AT_ONCE = """
import os, sys
if "server.worker" in sys.orig_argv:
    os._exit(7)
"""


def test_no_model_that_can_be_served(models: Path, tmp_path: Path) -> None:
    """The folder does not heal while a worker is started again."""
    own = tmp_path / "models"
    shutil.copytree(models / "demo", own / "demo")
    flip(own / "demo" / "1" / "window.onnx")
    with group(own) as process:
        assert process.wait() == 1
        assert process.lines[-1] == f"server: no model in {own} can be served"
        assert "another starts" not in process.log
        assert "Traceback" not in process.log
        assert not [each for each in psutil.process_iter(["ppid"]) if each.info["ppid"] == process.process.pid]


def test_workers_that_die_at_once_are_not_started_forever(models: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(DIES_AT_ONCE)
    with group(models, environ={"PYTHONPATH": str(tmp_path)}) as process:
        assert process.wait() == 1
        line = process.lines[-1]
        assert line.startswith("server: worker ")
        assert f"has died {MAX_FAILED_STARTS} times before it was ready: process " in line
        assert line.endswith("ended with status 7")
        assert "Traceback" not in process.log


def test_a_taken_port_is_one_line(models: Path) -> None:
    with server_process(models, "--reference", "off") as first:
        first.await_ports()
        with group(models, "--grpc", first.target) as second:
            assert second.wait() == 1
            assert second.lines == [f"server: grpc is '{first.target}'; cannot listen there: Address already in use"]
        with group(models, "--metrics", f"127.0.0.1:{first.metrics_port}") as third:
            assert third.wait() == 1
            assert third.lines == [
                f"server: metrics is '127.0.0.1:{first.metrics_port}'; cannot listen there: Address already in use"
            ]


def test_two_groups_and_a_server_never_share_a_port(models: Path) -> None:
    """While the first still loads, too."""
    with group(models) as first:
        first.await_ports()
        with group(models, "--grpc", first.target) as second:
            assert second.wait() == 1
            assert second.lines == [f"server: grpc is '{first.target}'; cannot listen there: Address already in use"]
        with server_process(models, "--reference", "off", "--grpc", first.target) as third:
            assert third.wait() == 1
            assert third.lines == [f"server: grpc is '{first.target}'; cannot listen there (is the port taken?)"]


def test_no_folder_is_one_line() -> None:
    with group(Path("/no/such/folder")) as process:
        assert process.wait() == 1
        assert process.lines == ["server: models is '/no/such/folder'; there is no such folder"]


def test_it_ends_while_it_starts(models: Path) -> None:
    with group(models) as process:
        process.await_line(r"worker 2 .* passed its gate")
        started = descendants(process)
        process.terminate()
        assert process.wait() == 0
        gone(started)
        assert "Traceback" not in process.log
        assert "ERROR" not in process.log


def test_killed_while_it_starts_it_leaves_nobody(models: Path) -> None:
    with group(models) as process:
        process.await_line(r"worker 2: process \d+ started")
        started = workers_of(process)
        process.process.kill()
        gone(started)


@pytest.mark.parametrize("input_is", ["no socket", "closed"])
def test_a_worker_is_nobodys_command(input_is: str) -> None:
    command = f"{sys.executable} -m server.worker " + ("< /dev/null" if input_is == "no socket" else "<&-")
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)  # noqa: S602
    assert done.returncode == 1
    assert done.stderr.startswith("server.worker: standard input is no supervisor's")
