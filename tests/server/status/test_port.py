"""What the metrics port answers, and what it does not."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from server.errors import StartupError
from server.status.port import MetricsPort


@pytest.fixture
def port() -> Iterator[MetricsPort]:
    registry = CollectorRegistry()
    Counter("seen", "Seen.", registry=registry).inc()
    port = MetricsPort("127.0.0.1:0", registry, lambda *, refresh: f"<p>é {refresh} {threading.current_thread().name}")
    yield port
    port.close()


def ask(port: MetricsPort, path: str, method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
    request = urllib.request.Request(f"http://127.0.0.1:{port.port}{path}", method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310 (ours)
            return reply.status, reply.read().decode(), dict(reply.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)


def test_the_status_page(port: MetricsPort) -> None:
    status, body, headers = ask(port, "/")
    assert (status, body[:9]) == (200, "<p>é True")
    assert "MainThread" not in body
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Length"] == str(len(body.encode()))
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert ask(port, "/?refresh=off")[1].startswith("<p>é False")


def test_the_metrics_page_is_the_librarys(port: MetricsPort) -> None:
    _, plain, headers = ask(port, "/metrics")
    assert "seen_total 1.0" in plain
    assert headers["Content-Type"].startswith("text/plain")
    _, other, headers = ask(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert other.endswith("# EOF\n")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert "seen_total" not in ask(port, "/metrics?name[]=other")[1]


@pytest.mark.parametrize("path", ["/", "/metrics"])
def test_head_is_get_without_a_body(port: MetricsPort, path: str) -> None:
    status, body, headers = ask(port, path, "HEAD")
    assert (status, body) == (200, "")
    assert headers["Content-Type"] == ask(port, path)[2]["Content-Type"]


@pytest.mark.parametrize("path", ["/nothing", "/favicon.ico", "/metrics/", "/index.html", "/%2e%2e/etc/passwd"])
def test_nothing_else_is_there(port: MetricsPort, path: str) -> None:
    assert ask(port, path)[0] == 404


@pytest.mark.parametrize("path", ["/", "/metrics"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_it_is_for_reading_alone(port: MetricsPort, path: str, method: str) -> None:
    status, _, headers = ask(port, path, method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_a_port_that_is_taken(port: MetricsPort) -> None:
    address = f"127.0.0.1:{port.port}"
    with pytest.raises(StartupError, match=f"metrics is '{address}'; cannot listen there: Address already in use"):
        MetricsPort(address, CollectorRegistry(), lambda **_: "")
