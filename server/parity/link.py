"""The connection to a reference process. Blocking; belongs to the monitor's thread."""

import contextlib
import importlib.util
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Protocol

from export.artifact.frames import Frame, FrameError, receive, send

logger = logging.getLogger("nextvalue.parity")


# The longest wait before a reference that keeps dying is started again.
MAX_RESTART_SECONDS = 10.0


class LinkDown(Exception):
    """The reference did not answer; the link has been reset and the next call tries again."""


class Link(Protocol):
    """Something that answers frames."""

    def call(self, frame: Frame) -> Frame:
        """Send a frame and wait for its reply. Raises LinkDown."""

    def close(self) -> None:
        """Let go, from any thread; a call in progress raises LinkDown."""


class JoinedReference:
    """A reference that someone else runs (a sidecar), reached at a unix socket."""

    def __init__(self, path: Path, *, timeout_seconds: float) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds
        self._connection: socket.socket | None = None

    def call(self, frame: Frame) -> Frame:
        """Connect if need be, send, wait at most the timeout."""
        try:
            if self._connection is None:
                self._connection = connect(self._path, self._timeout_seconds)
            send(self._connection, frame)
            reply = receive(self._connection)
            if reply is None:
                raise FrameError("the reference closed the connection")
        except (OSError, FrameError) as error:
            self.close()
            raise LinkDown(f"reference at {self._path}: {error}") from None
        return reply

    def close(self) -> None:
        """Drop the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def connect(path: Path, timeout_seconds: float) -> socket.socket:
    """A connected unix socket with a timeout on every operation. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout_seconds)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


class SpawnedReference:
    """A reference process of our own, started when needed and again whenever it dies or hangs."""

    def __init__(self, models: Path, *, timeout_seconds: float, start_timeout_seconds: float = 60.0) -> None:
        self._models = models
        self._folder = tempfile.TemporaryDirectory(prefix="nextvalue-")
        self._path = Path(self._folder.name) / "reference.sock"
        self._start_timeout_seconds = start_timeout_seconds
        self._joined = JoinedReference(self._path, timeout_seconds=timeout_seconds)
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = threading.Event()
        # Since it last answered; the waits between them grow.
        self._failed_starts = 0

    @property
    def path(self) -> Path:
        """Where it listens, for others to join."""
        return self._path

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process is not None else None

    def call(self, frame: Frame) -> Frame:
        """Start the process if it is not there, then as JoinedReference; a process that does not answer is killed."""
        self._ensure_started()
        try:
            reply = self._joined.call(frame)
        except LinkDown:
            self._kill()
            raise
        self._failed_starts = 0
        return reply

    def _ensure_started(self) -> None:
        if self._closed.is_set():
            raise LinkDown("the server is shutting down")
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            logger.warning("reference process %d ended with status %s", self._process.pid, self._process.returncode)
            self._joined.close()
        # One that dies at once must not be started in a tight loop.
        self._closed.wait(min(0.1 * 2**self._failed_starts, MAX_RESTART_SECONDS) if self._failed_starts else 0.0)
        self._failed_starts += 1
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        command = [sys.executable, "-m", "export.reference", "--listen", f"unix:{self._path}"]
        try:
            self._process = subprocess.Popen(  # noqa: S603 (our own module)
                [*command, "--models", str(self._models), "--exit-with-parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # a Ctrl-C in the terminal reaches the server, which ends this one in its turn
            )
        except OSError as error:
            raise LinkDown(f"reference process cannot be started: {error}") from None
        logger.info("reference process %d started", self._process.pid)
        self._await_hello(self._process)

    def _await_hello(self, process: "subprocess.Popen[bytes]") -> None:
        give_up = time.monotonic() + self._start_timeout_seconds
        while time.monotonic() < give_up and not self._closed.wait(0.05):
            if process.poll() is not None:
                raise LinkDown(f"reference process {process.pid} ended at once with status {process.returncode}")
            with contextlib.suppress(LinkDown):
                self._joined.call(Frame({"type": "hello"}, {}))
                logger.info("reference process %d answers", process.pid)
                return
        self._kill()
        raise LinkDown(f"reference process did not answer within {self._start_timeout_seconds:g} s of its start")

    def _kill(self) -> None:
        self._joined.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End the process and remove its socket."""
        self._closed.set()
        self._kill()
        self._folder.cleanup()


def torch_is_installed() -> bool:
    """Whether a reference can be started here, found out without importing torch."""
    return importlib.util.find_spec("torch") is not None and importlib.util.find_spec("training") is not None
