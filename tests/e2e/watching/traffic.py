"""A server with a bit of everything to show, and calls of every kind at it."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import numpy as np

from nextvalue import Client, NextvalueError, Overloaded
from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub
from tests.server.harness import LIMIT_SECONDS, ServerProcess, predict_request, server_process

# Outside data: what a page must not take for its own.
RUDE = "<script>alert(1)</script>"
OPTIONS = ("--parity-share", "1", "--max-queue-windows", "1024", "--poll-seconds", "0")
PAUSE_SECONDS = 0.01


def repository(models: Path, copy: Path, *, unknown: str = RUDE) -> Path:
    """The shared models, one of them with labels, and a version that is set aside for a field that nobody knows."""
    shutil.copytree(models, copy)
    (copy / "demo" / "labels.json").write_text('{"stable": 1, "spring-2026": 1}')
    bad = shutil.copytree(copy / "demo" / "1", copy / "demo" / "2")
    manifest = bad / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"name"', f'"{unknown}"', 1))
    return copy


class Traffic:
    """Threads that call until `end`; what goes wrong on purpose is passed over."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._ending = threading.Event()
        self.num_rounds = 0
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._ordinary, self._too_much)]
        for thread in self._threads:
            thread.start()

    def _ordinary(self) -> None:
        windows = np.arange(40, dtype=np.float32).reshape(8, 5)
        times = np.arange(6) * 3600
        with Client(self._target) as client:
            while not self._ending.wait(PAUSE_SECONDS):
                with suppress(Overloaded):
                    client.predict("demo", windows[: 1 + self.num_rounds % 8], horizon=1 + self.num_rounds % 4)
                client.predict("demand", np.ones((2, 6, 2)), times=times, series=["shop-a", "shop-b"], intervals=True)
                client.predict("windowed", windows[:2])
                client.models()
                if self.num_rounds % 10 == 0:
                    for model, window in (("demo", [1.0, 2.0]), ("nobody", [1.0])):
                        with suppress(NextvalueError):
                            client.predict(model, window)
                self.num_rounds += 1

    def _too_much(self) -> None:
        """More at once than the queue takes, now and then."""
        request = predict_request("demo", np.zeros((512, 5, 1), np.float32), horizon=4)
        with grpc.insecure_channel(self._target) as channel:
            while not self._ending.wait(50 * PAUSE_SECONDS):
                calls = [NextValueStub(channel).Predict.future(request, timeout=LIMIT_SECONDS) for _ in range(4)]
                for call in calls:
                    call.code()

    def end(self) -> None:
        """No further calls."""
        self._ending.set()
        for thread in self._threads:
            thread.join(LIMIT_SECONDS)


@contextmanager
def under_traffic(models: Path, *options: str) -> Iterator[tuple[ServerProcess, Traffic]]:
    """A server that is ready, and called."""
    with server_process(models, *OPTIONS, *options) as process:
        process.await_ready()
        traffic = Traffic(process.target)
        try:
            yield process, traffic
        finally:
            traffic.end()
