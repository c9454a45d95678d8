"""deploy/envoy/envoy.yaml as it is but for its ports, and the Envoy that runs it."""

import copy
import json
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.attempts import Attempt, attempts
from tests.e2e.ports import lasting_ports
from tests.e2e.replicas import Replica
from tests.server.harness import LIMIT_SECONDS, eventually_sync

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy" / "envoy" / "envoy.yaml"
# Where `make envoy` installs it; the program itself, not the script that starts it, so that it ends by its own pid.
FOUND = sorted(ROOT.glob("tests/e2e/.venvs/envoy/lib/python*/site-packages/envoy/_bin/envoy"))

needs_envoy = pytest.mark.skipif(not FOUND, reason="Envoy has an environment of its own: make envoy")


def rewritten(config: dict[str, Any], admin: int, port: int, servers: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """The configuration with other ports: its own two, and each server's (gRPC, health). Nothing else changes."""
    found = copy.deepcopy(config)
    found["admin"]["address"]["socket_address"]["port_value"] = admin
    (listener,) = found["static_resources"]["listeners"]
    listener["address"]["socket_address"]["port_value"] = port
    (cluster,) = found["static_resources"]["clusters"]
    (group,) = cluster["load_assignment"]["endpoints"]
    for each, (grpc, health) in zip(group["lb_endpoints"], servers, strict=True):
        each["endpoint"]["address"]["socket_address"]["port_value"] = grpc
        each["endpoint"]["health_check_config"]["port_value"] = health
    return found


def validated(path: Path) -> "subprocess.CompletedProcess[str]":
    """What Envoy says of a configuration."""
    command = [str(FOUND[0]), "--mode", "validate", "--config-path", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)


@dataclass(frozen=True)
class Envoy:
    """A running one."""

    port: int
    admin: int
    log: Path

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=LIMIT_SECONDS) as reply:
            return json.load(reply)

    def healthy(self) -> set[int]:
        """The ports of the servers that calls go to."""
        (cluster,) = self.ask("/clusters?format=json")["cluster_statuses"]
        return {
            host["address"]["socket_address"]["port_value"]
            for host in cluster.get("host_statuses", ())
            if host["health_status"].get("eds_health_status") == "HEALTHY"
            and not host["health_status"].get("failed_active_health_check", False)
        }

    def stats(self, pattern: str) -> dict[str, int]:
        """Counters and gauges by name."""
        found = self.ask(f"/stats?format=json&filter={pattern}")["stats"]
        return {each["name"]: each["value"] for each in found if "value" in each}

    def await_healthy(self, found: Sequence[Replica]) -> None:
        """Until calls go to just these."""
        wanted = {each.grpc_port for each in found}
        eventually_sync(lambda: self.healthy() == wanted, f"calls going to {wanted}")

    def cut(self) -> dict[str, int]:
        """What no server of ours may do while it ends: reset a stream, close a connection with calls on it."""
        found = self.stats("^cluster.nextvalue.(http2.rx_reset|upstream_cx_destroy_with_active_rq)$")
        assert len(found) == 2, found
        return {name: value for name, value in found.items() if value}

    def attempts(self) -> list[Attempt]:
        """Every attempt that has ended. The log is written some 10 s later, or at the end: ask after `envoy`."""
        return attempts(self.log.read_text())


@contextmanager
def envoy(found: Sequence[Replica], folder: Path) -> Iterator[Envoy]:
    """Envoy in front of servers, ready and with all of them healthy; ended in the end, its log complete then.

    Its configuration and log are put into `folder`.
    """
    admin, port = lasting_ports(2)
    config = rewritten(
        yaml.safe_load(CONFIG.read_text()), admin, port, [(each.grpc_port, each.health_port) for each in found]
    )
    file, log = folder / "envoy.yaml", folder / "envoy.log"
    file.write_text(yaml.safe_dump(config))
    # One thread, as one server has; no shared memory, so that several can run on one machine.
    command = [str(FOUND[0]), "--config-path", str(file), "--concurrency", "1", "--disable-hot-restart"]
    with log.open("w") as output:
        process = subprocess.Popen([*command, "--log-level", "warning"], stdout=output, stderr=subprocess.STDOUT)
    running = Envoy(port, admin, log)

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return bool(running.ask("/server_info")["state"] == "LIVE")
        except OSError:
            return False

    def end() -> None:
        process.terminate()
        try:
            process.wait(LIMIT_SECONDS)
        finally:
            process.kill()

    try:
        eventually_sync(is_ready, f"Envoy to be ready: {log.read_text()}")
        running.await_healthy(found)
        yield running
    finally:
        end()
