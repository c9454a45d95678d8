"""The connection to a reference, with a socket made up on the spot."""

import contextlib
import importlib.util
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from export.artifact.frames import Frame, FrameError, receive, send
from server.parity.link import MAX_RESTART_SECONDS, JoinedReference, LinkDown, SpawnedReference, torch_is_installed
from tests.server.harness import LIMIT_SECONDS, eventually_sync

# One connection: read frames, answer or not.
Serve = Callable[[socket.socket], None]


def echo(connection: socket.socket) -> None:
    with contextlib.suppress(FrameError, OSError):
        while (frame := receive(connection)) is not None:
            send(connection, frame)


def read_and_close(connection: socket.socket) -> None:
    receive(connection)


def read_and_hang(connection: socket.socket) -> None:
    receive(connection)
    with contextlib.suppress(FrameError, OSError):
        receive(connection)  # until the other side gives up


def garbage(connection: socket.socket) -> None:
    receive(connection)
    connection.sendall(b"\xff" * 64)


@contextmanager
def reference(path: Path, *serves: Serve) -> Iterator[None]:
    """Listens at `path`; connection k is served by `serves[k]`, the last one for all that follow."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def work() -> None:
        k = 0
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    serves[min(k, len(serves) - 1)](connection)
                k += 1

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(LIMIT_SECONDS)


def frame(number: int) -> Frame:
    return Frame({"type": "run", "number": number}, {"window": np.full((2, 3), number, np.float32)})


def joined(path: Path, timeout_seconds: float = LIMIT_SECONDS) -> JoinedReference:
    return JoinedReference(path, timeout_seconds=timeout_seconds)


def test_a_frame_goes_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "reference.sock"
    with reference(path, echo):
        link = joined(path)
        for number in range(3):
            reply = link.call(frame(number))
            assert reply.fields == frame(number).fields
            np.testing.assert_array_equal(reply.arrays["window"], frame(number).arrays["window"])
        link.close()


def test_nobody_there_is_link_down_and_later_somebody_is(tmp_path: Path) -> None:
    path = tmp_path / "reference.sock"
    link = joined(path)
    with pytest.raises(LinkDown, match="No such file"):
        link.call(frame(1))
    with reference(path, echo):
        assert link.call(frame(2)).fields["number"] == 2
        link.close()


@pytest.mark.parametrize("bad", [read_and_close, garbage])
def test_a_reference_that_breaks_off_is_link_down_and_the_next_call_connects_anew(tmp_path: Path, bad: Serve) -> None:
    path = tmp_path / "reference.sock"
    with reference(path, bad, echo):
        link = joined(path)
        with pytest.raises(LinkDown):
            link.call(frame(1))
        assert link.call(frame(2)).fields["number"] == 2
        link.close()


def test_a_reference_that_hangs_is_link_down(tmp_path: Path) -> None:
    """Its late answer can never be taken for the next call's: the connection is a new one."""
    path = tmp_path / "reference.sock"
    with reference(path, read_and_hang, echo):
        link = joined(path, timeout_seconds=0.1)
        with pytest.raises(LinkDown, match="timed out"):
            link.call(frame(1))
        link._timeout_seconds = LIMIT_SECONDS
        assert link.call(frame(2)).fields["number"] == 2
        link.close()


def test_close_ends_a_call_in_progress(tmp_path: Path) -> None:
    path = tmp_path / "reference.sock"
    outcome: list[BaseException] = []
    with reference(path, read_and_hang):
        link = joined(path)

        def call() -> None:
            try:
                link.call(frame(1))
            except LinkDown as error:
                outcome.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        eventually_sync(lambda: link._connection is not None, "the connection")
        link.close()
        thread.join(LIMIT_SECONDS)
        assert not thread.is_alive()
        assert isinstance(outcome[0], LinkDown)


def spawned(models: Path, start_timeout_seconds: float = LIMIT_SECONDS) -> SpawnedReference:
    return SpawnedReference(models, timeout_seconds=LIMIT_SECONDS, start_timeout_seconds=start_timeout_seconds)


def test_a_process_that_ends_at_once_is_link_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    link = spawned(tmp_path)
    for _ in range(2):
        with pytest.raises(LinkDown, match="ended at once with status 1"):
            link.call(frame(1))
    link.close()
    with pytest.raises(LinkDown, match="shutting down"):
        link.call(frame(1))


def test_a_reference_that_keeps_dying_is_started_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = spawned(tmp_path)
    waits: list[float] = []
    monkeypatch.setattr(link._closed, "wait", waits.append)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    for _ in range(12):
        with pytest.raises(LinkDown, match="ended at once"):
            link.call(frame(1))
    before_starts = [seconds for seconds in waits if seconds != 0.05]  # the others poll for its first word
    assert len(before_starts) == 12
    assert before_starts == sorted(before_starts)
    assert (before_starts[0], before_starts[-1]) == (0, MAX_RESTART_SECONDS)
    link.close()


def test_a_process_that_never_listens_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 1000\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    link = spawned(tmp_path, start_timeout_seconds=0.2)
    with pytest.raises(LinkDown, match=r"did not answer within 0\.2 s"):
        link.call(frame(1))
    assert link._process is not None
    assert link._process.poll() is not None
    link.close()


def test_a_program_that_is_not_there_is_link_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    link = spawned(tmp_path)
    with pytest.raises(LinkDown, match="cannot be started"):
        link.call(frame(1))
    link.close()


def test_the_socket_goes_with_the_link(tmp_path: Path) -> None:
    link = spawned(tmp_path)
    folder = link._path.parent
    assert folder.stat().st_mode & 0o077 == 0, "others on the machine may not join"
    link.close()
    assert not folder.exists()


def test_torch_is_looked_for_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert not torch_is_installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    assert torch_is_installed()
