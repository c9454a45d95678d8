"""Several workers as a user starts them, and what tests hold against them."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np
import psutil

from nextvalue import Client
from server.supervisor.page import VARIABLE
from tests.server.harness import LIMIT_SECONDS, ServerProcess, eventually_sync, server_process
from tests.server.oracle import Oracle

# Otherwise all channels of a process share one connection, which has one worker.
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)


@contextmanager
def group(
    models: Path, *options: str, workers: int = 2, environ: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """A supervisor that has just been started; nothing of it is left in the end."""
    with server_process(models, "--workers", str(workers), "--reference", "off", *options, environ=environ) as process:
        try:
            yield process
        finally:
            if process.process.poll() is None:
                started = descendants(process)
                process.terminate()  # killed, it would leave its folder behind
                process.wait()
                gone(started)


def descendants(process: ServerProcess) -> list[psutil.Process]:
    """Every process that it started."""
    return psutil.Process(process.process.pid).children(recursive=True)


def gone(processes: list[psutil.Process]) -> None:
    """Wait until they are; no test leaves any behind."""
    _, alive = psutil.wait_procs(processes, LIMIT_SECONDS)
    for each in alive:
        each.kill()
    assert not alive, f"these outlived their supervisor: {alive}"


def workers_of(process: ServerProcess) -> list[psutil.Process]:
    """Its workers, those that live now."""
    children = psutil.Process(process.process.pid).children()
    return [each for each in children if each.is_running() and "server.worker" in _command(each)]


def references_of(process: ServerProcess) -> list[psutil.Process]:
    """Its reference processes, and those of its workers."""
    return [each for each in descendants(process) if "export.reference" in _command(each)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def metrics_folder(process: ServerProcess) -> Path:
    return Path(workers_of(process)[0].environ()[VARIABLE])


def await_replaced(process: ServerProcess, killed: int) -> None:
    """Until as many workers serve as were started, and one more for each that was killed."""

    def serving() -> bool:
        return sum(re.search(r"process \d+ serves$", line) is not None for line in list(process.lines)) >= 2 + killed

    eventually_sync(serving, f"the replacement of {killed} worker(s)")


def total(process: ServerProcess, family: str, **labels: str) -> float:
    """The sum over a family of the page, of the samples with these labels."""
    lines = [line for line in process.page().splitlines() if line.startswith(family + "{")]
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in wanted))


@contextmanager
def connections(target: str, count: int) -> Iterator[list[grpc.Channel]]:
    """Channels with a connection each."""
    with ExitStack() as stack:
        yield [stack.enter_context(grpc.insecure_channel(target, options=[OWN_CONNECTION])) for _ in range(count)]


class Callers:
    """Threads that call with our client, a connection each, until the end; what went wrong is kept."""

    def __init__(self, target: str, demo: Oracle, count: int, *, connect: Callable[[str], Client] = Client) -> None:
        self._target = target
        self._demo = demo
        self._connect = connect
        self._ending = threading.Event()
        self.num_right = [0] * count
        self.errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _call(self, number: int) -> None:
        generator = np.random.default_rng(number)
        try:
            with self._connect(self._target) as client:
                while not self._ending.is_set():
                    windows = self._demo.random_windows(generator, int(generator.integers(1, 4)))
                    found = client.predict("demo", windows, horizon=2, timeout_seconds=LIMIT_SECONDS)
                    self._demo.assert_right(found.values, self._demo.predict(windows, 2))
                    self.num_right[number] += 1
        except Exception as error:  # noqa: BLE001 (the test's own thread reports it)
            self.errors.append(error)

    def await_calls(self, count: int) -> None:
        """Until each caller has had so many more answers, or something went wrong."""
        goal = [done + count for done in self.num_right]
        eventually_sync(
            lambda: self.errors or all(done >= wanted for done, wanted in zip(self.num_right, goal, strict=True)),
            f"{count} more calls by each",
        )

    def end(self) -> None:
        """No further calls. Nothing may have gone wrong."""
        self._ending.set()
        for thread in self._threads:
            thread.join(LIMIT_SECONDS)
            assert not thread.is_alive()
        assert not self.errors, self.errors
