"""The metrics port: the status page at `/`, Prometheus' page at `/metrics`, and nothing else. A thread of its own."""

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from server.config import split_address
from server.errors import StartupError

# A reader that says nothing for so long is let go.
IDLE_SECONDS = 30

_HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]

# `refresh`: whether the page is to look again by itself.
Render = Callable[..., str]
Start = Callable[..., Any]
App = Callable[[dict[str, Any], Start], Iterable[bytes]]


def app_of(registry: CollectorRegistry, render: Render) -> App:
    """What answers on the port."""
    metrics: App = make_wsgi_app(registry)

    def status(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        asked = parse_qs(environ.get("QUERY_STRING", ""))
        body = render(refresh=asked.get("refresh") != ["off"]).encode()
        start("200 OK", [*_HEADERS, ("Content-Length", str(len(body)))])
        return [body]

    pages = {"/": status, "/metrics": metrics}

    def app(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        method, page = environ["REQUEST_METHOD"], pages.get(environ.get("PATH_INFO") or "/")
        if page is None:
            return _refused(start, "404 Not Found", "there are / and /metrics")
        if method not in {"GET", "HEAD"}:
            return _refused(start, "405 Method Not Allowed", "GET or HEAD", ("Allow", "GET, HEAD"))
        if method == "GET":
            return page(environ, start)
        # As GET, but for the body.
        list(page({**environ, "REQUEST_METHOD": "GET"}, start))
        return []

    return app


def _refused(start: Start, status: str, message: str, *headers: tuple[str, str]) -> Iterable[bytes]:
    body = f"{message}\n".encode()
    start(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *headers])
    return [body]


class _Handler(WSGIRequestHandler):
    timeout = IDLE_SECONDS

    def log_message(self, *_: object) -> None:
        """Scrapes are no news."""


class MetricsPort:
    """Open until `close`."""

    def __init__(self, address: str, registry: CollectorRegistry, render: Render) -> None:
        """Raises StartupError if the port cannot be had."""
        host, number = split_address(address)

        class Server(ThreadingWSGIServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = make_server(host, number, app_of(registry, render), Server, _Handler)
        except OSError as error:
            raise StartupError(f"metrics is {address!r}; cannot listen there: {error.strerror}") from None
        self.port = int(self._server.server_port)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve no longer."""
        self._server.shutdown()
        self._server.server_close()
