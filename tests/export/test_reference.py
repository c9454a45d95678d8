"""python -m export.reference: answers as the reference in this process does, and no message can end it."""

import contextlib
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from export.artifact.errors import ArtifactError
from export.artifact.folder import Artifact
from export.artifact.frames import Frame, receive, send
from export.evaluate import Reference
from export.reference import ReferenceServer, is_answered, load_reference, main
from training.run import Run

START_SECONDS = 60


def _command(listen: Path, models: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "export.reference", "--listen", f"unix:{listen}", "--models", str(models), *more]


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        yield connection


def _ask(connection: socket.socket, frame: Frame) -> Frame:
    send(connection, frame)
    reply = receive(connection)
    assert reply is not None
    return reply


def _is_dropped(connection: socket.socket) -> bool:
    """Whether the other side closes; the kernel calls it a reset if it had not read everything."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def _hello(connection: socket.socket) -> bool:
    return _ask(connection, Frame({"type": "hello"}, {})).fields == {"type": "ready"}


def _run(
    connection: socket.socket,
    inputs: dict[str, NDArray[np.float32]],
    *,
    model: str = "counting",
    version: str | float = 1,
    graph: str = "window",
) -> Frame:
    fields: dict[str, str | int | float] = {"type": "run", "model": model, "version": version, "graph": graph}
    return _ask(connection, Frame(fields, dict(inputs)))


def _await_ready(path: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        with contextlib.suppress(OSError), _connected(path) as connection:
            assert _hello(connection)
            return
        time.sleep(0.05)
    raise TimeoutError(f"no reference at {path} after {START_SECONDS} s")


@contextlib.contextmanager
def _started(path: Path, models: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(_command(path, models), stderr=subprocess.PIPE, text=True) as process:
        try:
            _await_ready(path)
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Path]:
    """The socket of a reference that serves the whole module."""
    path = tmp_path_factory.mktemp("reference") / "socket"
    with _started(path, repository):
        yield path


@pytest.fixture
def connection(listening: Path) -> Iterator[socket.socket]:
    with _connected(listening) as connection:
        yield connection


@pytest.fixture(scope="module")
def reference(run: Run) -> Reference:
    return Reference(run.model)


def test_window_is_answered_as_in_this_process(connection: socket.socket, run: Run, reference: Reference) -> None:
    for batch in (1, 7, len(run.samples["window"])):
        reply = _run(connection, {"window": run.samples["window"][:batch]})
        assert reply.fields == {"type": "result"}
        assert set(reply.arrays) == {"next", "lower", "upper"}
        assert reply.arrays["next"].dtype == np.float64
        np.testing.assert_allclose(
            reply.arrays["next"], reference.window(run.samples["window"][:batch]), rtol=1e-12, atol=1e-12
        )


def test_step_is_answered_as_in_this_process(connection: socket.socket, run: Run, reference: Reference) -> None:
    inputs = reference.step_inputs({"window": run.samples["window"][:7]})
    reply = _run(connection, inputs, graph="step")
    expected = reference.run("step", inputs)
    assert reply.fields == {"type": "result"}
    assert set(reply.arrays) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(reply.arrays[name], array, rtol=1e-12, atol=1e-12)


def test_every_model_of_the_repository_is_answered(connection: socket.socket, repository: Path) -> None:
    windows = np.linspace(90, 110, 3 * 6 * 2).reshape(3, 6, 2).astype(np.float32)
    expected = load_reference(repository, "last", 1).window(windows)
    np.testing.assert_allclose(_run(connection, {"window": windows}, model="last").arrays["next"], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"model": "absent"}, "ArtifactError: manifest.json: No such file or directory"),
        ({"version": 2}, "ArtifactError: manifest.json: No such file or directory"),
        ({"model": "../models/counting"}, "that is no model's name"),
        ({"model": "/etc"}, "that is no model's name"),
        ({"version": "../1"}, "ValueError"),
        ({"version": 1e300}, "ArtifactError"),
        ({"graph": "step"}, "KeyError"),
    ],
)
def test_what_there_is_not_is_an_error_and_the_connection_stays(
    connection: socket.socket, run: Run, asked: dict[str, str], message: str
) -> None:
    reply = _run(connection, {"window": run.samples["window"][:1]}, **asked)
    assert reply.fields["type"] == "error"
    assert message in str(reply.fields["message"])
    assert reply.arrays == {}
    assert _run(connection, {"window": run.samples["window"][:1]}).fields == {"type": "result"}


def test_step_of_what_cannot_be_stepped_is_an_error(connection: socket.socket) -> None:
    reply = _run(connection, {"value": np.zeros((1, 2), np.float32)}, model="last", graph="step")
    assert reply.fields["type"] == "error"
    assert "the model cannot be stepped" in str(reply.fields["message"])


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"windows": np.zeros((1, 5, 1), np.float32)},
        {"window": np.zeros((), np.float32)},
        {"window": np.zeros(5, np.float32)},
        {"window": np.zeros((1, 5), np.float32)},
        {"window": np.zeros((1, 0, 1), np.float32)},
        {"window": np.zeros((1, 5, 3), np.float32)},
    ],
    ids=lambda inputs: "-".join(f"{name}{list(array.shape)}" for name, array in inputs.items()) or "none",
)
def test_inputs_that_do_not_fit_are_an_error_and_the_connection_stays(
    connection: socket.socket, run: Run, inputs: dict[str, NDArray[np.float32]]
) -> None:
    reply = _run(connection, inputs)
    assert reply.fields["type"] == "error"
    assert _run(connection, {"window": run.samples["window"][:1]}).fields == {"type": "result"}


@pytest.mark.parametrize("fields", [{}, {"type": "run"}, {"type": "run", "model": "counting", "version": 1}])
def test_message_without_its_fields_is_an_error(
    connection: socket.socket, fields: dict[str, str | int | float]
) -> None:
    assert _ask(connection, Frame(fields, {})).fields["type"] == "error"
    assert _hello(connection)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("<I", 4) + b"null",
        struct.pack("<I", 2) + b"\xff\xff",
        struct.pack("<I", 100) + b"cut short",
        b"\x80\x04\x95",
    ],
)
def test_garbage_drops_the_connection_and_nothing_else(
    listening: Path, connection: socket.socket, garbage: bytes
) -> None:
    """Those who are connected, and those who come after, notice nothing."""
    assert _hello(connection)
    with _connected(listening) as bad:
        bad.sendall(garbage)
        bad.shutdown(socket.SHUT_WR)
        assert _is_dropped(bad)
    assert _hello(connection)
    with _connected(listening) as later:
        assert _hello(later)


def test_shape_beyond_numpy_drops_the_connection(listening: Path) -> None:
    header = json.dumps(
        {"fields": {"type": "run"}, "arrays": [{"name": "window", "dtype": "float32", "shape": [0, 2**62, 4]}]}
    ).encode()
    with _connected(listening) as bad:
        bad.sendall(struct.pack("<I", len(header)) + header)
        assert _is_dropped(bad)
    _await_ready(listening)


def test_asker_that_leaves_before_its_answer_hurts_nobody(listening: Path, connection: socket.socket, run: Run) -> None:
    for _ in range(5):
        with _connected(listening) as leaving:
            fields: dict[str, str | int | float] = {"type": "run", "model": "counting", "version": 1, "graph": "window"}
            send(leaving, Frame(fields, {"window": run.samples["window"]}))
    assert _run(connection, {"window": run.samples["window"][:1]}).fields == {"type": "result"}


def test_hello_waits_for_a_computation(tmp_path: Path, repository: Path) -> None:
    """Whoever looks after it on a connection of his own learns by it that a computation hangs."""
    path = tmp_path / "reference.sock"
    with ReferenceServer(path, repository) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        with _connected(path) as connection:
            with server.computing:
                connection.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    _hello(connection)
            connection.settimeout(30)
            reply = receive(connection)
            assert reply is not None
            assert reply.fields == {"type": "ready"}
        server.shutdown()
        serving.join()


def test_sigterm_ends_it_and_removes_its_socket(tmp_path: Path, repository: Path) -> None:
    """Also while a server is connected; and what it logged of it all is no traceback."""
    path = tmp_path / "socket"
    with _started(path, repository) as process, _connected(path) as connected, _connected(path) as bad:
        assert _hello(connected)
        bad.sendall(b"\xff" * 64)
        assert _is_dropped(bad)
        _run(connected, {"window": np.zeros(3, np.float32)})
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 0
        assert not path.exists()
    assert "connection dropped: header has" in err
    assert "Traceback" not in err


def test_exits_with_its_parent(tmp_path: Path, repository: Path) -> None:
    """A server that is killed cannot end its reference; the reference notices."""
    path = tmp_path / "socket"
    command = _command(path, repository, "--exit-with-parent")
    code = f"import os, subprocess; subprocess.run([*{command!r}, str(os.getpid())])"
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        try:
            _await_ready(path)
            (child,) = psutil.Process(parent.pid).children()
        finally:
            parent.kill()
    try:
        # Whoever watches the process sees it end too early: it is a zombie while its threads still hold the socket.
        give_up = time.monotonic() + START_SECONDS
        while is_answered(path) and time.monotonic() < give_up:
            time.sleep(0.1)
        with pytest.raises(ConnectionRefusedError), _connected(path):
            pass
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


@pytest.mark.timeout(60)  # what was to be refused but is served would be served for ever
class TestStart:
    @pytest.mark.parametrize("listen", ["", "unix:", "tcp:127.0.0.1:1", "/run/socket", "unix"])
    def test_bad_listen_is_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], listen: str) -> None:
        assert main(["--listen", listen, "--models", str(tmp_path)]) == 1
        assert capsys.readouterr() == ("", f"reference: listen is {listen!r}; it must be unix:PATH\n")

    def test_missing_models_is_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        models = tmp_path / "absent"
        assert main(["--listen", f"unix:{tmp_path}/socket", "--models", str(models)]) == 1
        assert capsys.readouterr() == ("", f"reference: models is {str(models)!r}; there is no such folder\n")

    @pytest.mark.parametrize("where", ["absent/socket", "folder", "file", "x" * 120])
    def test_place_that_cannot_be_listened_on_is_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
    ) -> None:
        """What lies there and is no socket stays."""
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("precious")
        assert main(["--listen", f"unix:{tmp_path / where}", "--models", str(tmp_path)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"reference: cannot listen on {tmp_path / where}: ")
        assert err.count("\n") == 1
        assert (tmp_path / "file").read_text() == "precious"

    def test_command_ends_with_status_1(self, tmp_path: Path) -> None:
        command = _command(tmp_path / "socket", tmp_path / "absent")
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_SECONDS)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr.startswith("reference: models is ")
        assert ran.stderr.count("\n") == 1

    def test_socket_left_by_a_killed_one_is_taken_over(self, tmp_path: Path, repository: Path) -> None:
        path = tmp_path / "socket"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        with _started(path, repository), _connected(path) as connection:
            assert _hello(connection)

    def test_socket_of_a_living_one_is_left_to_it(
        self, tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "socket"
        with _started(path, repository), _connected(path) as connection:
            assert main(["--listen", f"unix:{path}", "--models", str(repository)]) == 1
            assert capsys.readouterr().err.endswith("another reference answers there\n")
            assert _hello(connection)
            with _connected(path) as another:
                assert _hello(another)


class TestLoading:
    def test_published_weights_are_the_model(self, repository: Path, run: Run, reference: Reference) -> None:
        np.testing.assert_array_equal(
            load_reference(repository, "counting", 1).window(run.samples["window"]),
            reference.window(run.samples["window"]),
        )

    def test_weights_that_do_not_fit_are_named(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        weights = safetensors.torch.save({"head.weight": torch.zeros(1)})
        monkeypatch.setattr(Artifact, "read", lambda *_: weights)
        with pytest.raises(ArtifactError, match=r"^weights\.safetensors: "):
            load_reference(repository, "counting", 1)

    def test_weights_that_are_none_are_named(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Artifact, "read", lambda *_: b"\x80\x04N.")
        with pytest.raises(ArtifactError, match=r"^weights\.safetensors: "):
            load_reference(repository, "counting", 1)
