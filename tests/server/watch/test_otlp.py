"""Spans on their way: a whole server and a collector that takes OTLP over gRPC."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry is not installed (extra otel)")

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from nextvalue import Client
from tests.server.harness import server_process


class Collector(TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.spans: list[Any] = []

    def Export(self, request: Any, context: object) -> Any:  # noqa: ARG002, N802 (the .proto's name)
        with self.lock:
            for resource in request.resource_spans:
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return otlp.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, int]]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, port
    server.stop(None).wait()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_not_sent_yet_is_sent_at_the_end(models: Path, collector: tuple[Collector, int], workers: int) -> None:
    kept, port = collector
    options = ["--otlp-endpoint", f"http://127.0.0.1:{port}", "--trace-share", "1", "--workers", str(workers)]
    with server_process(models, "--reference", "off", *options) as process:
        process.await_ready()
        with Client(process.target) as client:
            client.predict("demo", np.zeros(5))
        process.terminate()
        assert process.wait() == 0, process.log
        assert "Traceback" not in process.log, process.log
    assert [span.name for span in kept.spans] == ["check", "queue", "run", "answer", "nextvalue.v1.NextValue/Predict"]
    *children, root = kept.spans
    assert {child.parent_span_id for child in children} == {root.span_id}
    assert {child.trace_id for child in children} == {root.trace_id}
