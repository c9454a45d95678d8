"""A real Prometheus that scrapes one server on this machine."""

import json
import re
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.server.harness import LIMIT_SECONDS, eventually_sync

# As in a cluster, where the operator adds it.
NAMESPACE = "demo"
_CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: nextvalue
    static_configs:
      - targets: ["127.0.0.1:{port}"]
        labels: {{namespace: {namespace}}}
"""


def program() -> str | None:
    """Where it is; None where it is not installed."""
    return shutil.which("prometheus")


class Prometheus:
    """Asked over its HTTP interface."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **arguments: str) -> Any:
        """The data of an answer. A query that does not parse is refused with 400, which raises."""
        url = f"{self._base}/{path}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=LIMIT_SECONDS) as reply:  # noqa: S310 (our own)
            answer = json.loads(reply.read())
        assert answer["status"] == "success", answer
        return answer["data"]

    def range(self, query: str, *, seconds: float, now: float, step: int = 1) -> list[Any]:
        """Series of the last seconds."""
        times = {"start": f"{now - seconds:.3f}", "end": f"{now:.3f}", "step": str(step)}
        found: list[Any] = self.ask("query_range", query=query, **times)["result"]
        return found


@contextmanager
def scraping(metrics_port: int) -> Iterator[Prometheus]:
    """One that has begun to scrape; killed, and its folder gone, in the end."""
    found = program()
    assert found is not None
    with tempfile.TemporaryDirectory(prefix="prometheus-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        config, log = folder / "prometheus.yml", folder / "log"
        config.write_text(_CONFIG.format(port=metrics_port, namespace=NAMESPACE))
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [
                    found, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
                    "--web.listen-address=127.0.0.1:0", "--query.lookback-delta=10s",
                ],
                stdout=sink, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            port = _port_of(process, log)
            prometheus = Prometheus(port)
            eventually_sync(lambda: _scraped(prometheus), "a scrape")
            yield prometheus
        finally:
            process.kill()
            process.wait()


def _port_of(process: "subprocess.Popen[bytes]", log: Path) -> int:
    found: list[int] = []

    def look() -> bool:
        assert process.poll() is None, log.read_text()
        found.extend(int(port) for port in re.findall(r'Listening on"? .*?127\.0\.0\.1:(\d+)', log.read_text()))
        return bool(found)

    eventually_sync(look, "Prometheus' port")
    return found[0]


def _scraped(prometheus: Prometheus) -> bool:
    try:
        return bool(prometheus.ask("query", query="up == 1")["result"])
    except OSError:
        return False
