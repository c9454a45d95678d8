"""A real Prometheus that scrapes servers of a test, with the alerts of deploy/ where asked for."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.ports import lasting_ports
from tests.server.harness import LIMIT_SECONDS, eventually_sync

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "kubernetes" / "components" / "monitoring" / "rules.yaml"
PROGRAM = shutil.which("prometheus")

needs_prometheus = pytest.mark.skipif(PROGRAM is None, reason="Prometheus is not installed (package prometheus)")

_MINUTES = re.compile(r"(?<![\w.])(\d+)m\b")


def hastened(rules: dict[str, Any]) -> dict[str, Any]:
    """A PrometheusRule's groups in which every minute, of `for` and of ranges, is a second. Nothing else changes."""
    found: dict[str, Any] = yaml.safe_load(yaml.safe_dump({"groups": rules["spec"]["groups"]}))
    for group in found["groups"]:
        for rule in group["rules"]:
            for key in ("for", "expr"):
                if key in rule:
                    rule[key] = _MINUTES.sub(r"\1s", rule[key])
    return found


@dataclass(frozen=True)
class Prometheus:
    """A running one."""

    port: int

    def ask(self, path: str, **parameters: str) -> Any:
        """What an endpoint of the API answers."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=LIMIT_SECONDS) as reply:
            answer = json.load(reply)
        assert answer["status"] == "success"
        return answer["data"]

    def values(self, query: str) -> list[float]:
        """A query's values now."""
        return [float(each["value"][1]) for each in self.ask("query", query=query)["result"]]

    def range(self, query: str, *, seconds: float, now: float, step: int = 1) -> list[Any]:
        """A query's series over the last seconds."""
        times = {"start": f"{now - seconds:.3f}", "end": f"{now:.3f}", "step": str(step)}
        found: list[Any] = self.ask("query_range", query=query, **times)["result"]
        return found

    def await_scrapes(self, count: int) -> None:
        """Until each of so many targets has been scraped, beginning after now."""
        now = time.time()

        def all_after() -> bool:
            starts = self.values('timestamp(up{job="nextvalue"} == 1)')
            return len(starts) == count and min(starts) > now

        eventually_sync(all_after, f"{count} scrapes")

    def alerts(self) -> dict[str, str]:
        """The state of each alert that is pending or firing."""
        return {each["labels"]["alertname"]: each["state"] for each in self.ask("alerts")["alerts"]}


@contextmanager
def prometheus(
    metrics_ports: Sequence[int], folder: Path, rules: dict[str, Any] | None = None, *, lookback: str = "5m"
) -> Iterator[Prometheus]:
    """Prometheus that scrapes these ports every half second; ended in the end. Its files are put into `folder`.

    `lookback`: for how long a value stands where nothing was scraped.
    """
    assert PROGRAM is not None
    (port,) = lasting_ports(1)
    config = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "scrape_configs": [
            {
                "job_name": "nextvalue",
                "static_configs": [
                    # The operator says in which namespace a pod was.
                    {"targets": [f"127.0.0.1:{each}" for each in metrics_ports], "labels": {"namespace": "here"}}
                ],
            }
        ],
    }
    if rules is not None:
        (folder / "rules.yml").write_text(yaml.safe_dump(rules))
        config["rule_files"] = [str(folder / "rules.yml")]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        PROGRAM,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--query.lookback-delta={lookback}",
        "--log.level=warn",
    ]
    log = folder / "prometheus.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    running = Prometheus(port)

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=LIMIT_SECONDS):
                return True
        except OSError:
            return False

    try:
        eventually_sync(is_ready, f"Prometheus to be ready: {log.read_text()}")
        yield running
    finally:
        process.terminate()
        try:
            process.wait(LIMIT_SECONDS)
        finally:
            process.kill()
