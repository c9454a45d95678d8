"""Three servers as a user starts them, each of which can be restarted where it was."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.ports import lasting_ports
from tests.server.harness import ServerProcess, server_process

NUM_REPLICAS = 3


@dataclass
class Replica:
    """A server and its three ports, which stay when it is started again."""

    models: Path
    options: tuple[str, ...]
    grpc_port: int
    health_port: int
    metrics_port: int
    process: ServerProcess

    @classmethod
    def start(cls, models: Path, options: tuple[str, ...], stack: ExitStack) -> "Replica":
        """It may still be loading."""
        grpc_port, health_port, metrics_port = lasting_ports(3)
        ports = (grpc_port, health_port, metrics_port)
        return cls(models, options, *ports, process=_process(models, options, ports, stack))

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def stop(self) -> None:
        """SIGTERM, and the drain to its end."""
        self.process.terminate()
        assert self.process.wait() == 0, self.process.log
        assert "Traceback" not in self.process.log, self.process.log
        # Whatever it had queued was answered: what is refused with UNAVAILABLE was not.
        assert "not drained" not in self.process.log, self.process.log

    def start_again(self, stack: ExitStack) -> None:
        """The same command, until it is ready."""
        ports = (self.grpc_port, self.health_port, self.metrics_port)
        self.process = _process(self.models, self.options, ports, stack)
        self.process.await_ready()

    def counted(self, family: str, **labels: str) -> float:
        """The sum of a family's samples with these labels, on the server's own page."""
        return sum(
            sample.value
            for each in text_string_to_metric_families(self.process.page())
            for sample in each.samples
            if sample.name == family and labels.items() <= sample.labels.items()
        )


def _process(models: Path, options: tuple[str, ...], ports: tuple[int, int, int], stack: ExitStack) -> ServerProcess:
    grpc, health, metrics = (f"127.0.0.1:{port}" for port in ports)
    # The last of two that say the same is taken.
    named = ("--grpc", grpc, "--health-listen", health, "--metrics", metrics, "--reference", "off", *options)
    return stack.enter_context(server_process(models, *named))


@contextmanager
def replicas(models: Path, *options: str, stack: ExitStack) -> Iterator[list[Replica]]:
    """All ready; whatever is started on `stack` is ended with it."""
    found = [Replica.start(models, options, stack) for _ in range(NUM_REPLICAS)]
    for each in found:
        each.process.await_ready()
    yield found
