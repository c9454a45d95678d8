"""Spans as a collector gets them, here in memory."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry is not installed (extra otel)")

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from server.errors import StartupError
from server.watch.choose import chosen_watch
from tests.server.harness import FailingSession, eventually, make_config, serving
from tests.server.watch import calls

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-01")
NOT_SAMPLED = ("traceparent", f"00-{TRACE}-{PARENT}-00")
ENDPOINT = "http://127.0.0.1:1"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()

    def in_memory(endpoint: str) -> SpanProcessor:
        assert endpoint == ENDPOINT
        return SimpleSpanProcessor(exporter)

    monkeypatch.setattr("server.watch.traces.otlp", in_memory)
    return exporter


def roots(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.kind is SpanKind.SERVER]


async def test_the_phases_are_children_of_the_callers_span(models: Path, exporter: InMemorySpanExporter) -> None:
    async with serving(models, otlp_endpoint=ENDPOINT, trace_share=0) as running:
        await calls.predict(running, SAMPLED, ("x-request-id", "abc"), ("authorization", "s3cret"))
        await eventually(lambda: roots(exporter), "the span")
    *children, root = exporter.get_finished_spans()
    assert root.context is not None
    assert root.parent is not None
    assert f"{root.context.trace_id:032x}" == TRACE
    assert f"{root.parent.span_id:016x}" == PARENT
    assert root.name == "nextvalue.v1.NextValue/Predict"
    assert root.status.status_code is StatusCode.UNSET
    attributes = dict(root.attributes or {})
    assert str(attributes.pop("client.address")).startswith("ipv4:127.0.0.1:")
    assert attributes == {
        "rpc.system": "grpc", "rpc.service": "nextvalue.v1.NextValue", "rpc.method": "Predict",
        "rpc.grpc.status_code": 0, "nextvalue.model": "demo", "nextvalue.version": "1", "nextvalue.windows": 3,
        "nextvalue.request_id": "abc",
    }  # fmt: skip
    assert root.resource.attributes["service.name"] == "nextvalue"

    assert [child.name for child in children] == ["check", "queue", "run", "answer"]
    edges = []
    for child in children:
        assert child.parent is not None
        assert child.parent.span_id == root.context.span_id
        assert child.start_time is not None
        assert child.end_time is not None
        edges += [child.start_time, child.end_time]
    assert root.start_time is not None
    assert root.end_time is not None
    assert edges == sorted(edges)
    assert edges[1:-1:2] == edges[2::2], "one begins where the other ends"
    assert (edges[0], edges[-1]) == (root.start_time, root.end_time)
    assert children[2].attributes == {"nextvalue.batch_windows": 3}


async def test_who_is_sampled(models: Path, exporter: InMemorySpanExporter) -> None:
    """The caller says; where it does not, the share."""
    async with serving(models, otlp_endpoint=ENDPOINT, trace_share=0) as running:
        await calls.predict(running)
        await calls.predict(running, NOT_SAMPLED)
        await calls.predict(running, SAMPLED)
        await eventually(lambda: roots(exporter), "the third")
    assert len(roots(exporter)) == 1


async def test_who_is_sampled_where_all_are(models: Path, exporter: InMemorySpanExporter) -> None:
    async with serving(models, otlp_endpoint=ENDPOINT, trace_share=1) as running:
        await calls.predict(running)
        await calls.predict(running, ("traceparent", "nonsense"))
        await calls.predict(running, NOT_SAMPLED)
        await calls.stream(running, SAMPLED)
        await eventually(lambda: len(roots(exporter)) == 4, "four spans")
    assert [span.parent is None for span in roots(exporter)] == [True, True, False, False]
    assert len({span.context.trace_id for span in roots(exporter)[:2] if span.context}) == 2


async def test_errors(models: Path, exporter: InMemorySpanExporter) -> None:
    """The server's own are errors of its span, the caller's are not."""
    async with serving(models, otlp_endpoint=ENDPOINT, trace_share=1) as running:
        await calls.predict(running, model="nobody")
        await calls.late(running)
        engine = running.engine("demo")
        session = engine.sessions["window"]
        engine.sessions["window"] = FailingSession(session)
        await calls.predict(running)
        engine.sessions["window"] = session
        await eventually(lambda: len(roots(exporter)) == 4, "four spans")
    found = {
        (span.attributes or {})["rpc.grpc.status_code"]: (span.status.status_code, span.status.description)
        for span in roots(exporter)
    }
    assert found == {
        5: (StatusCode.UNSET, None),
        0: (StatusCode.UNSET, None),
        4: (StatusCode.ERROR, "DEADLINE_EXCEEDED"),
        13: (StatusCode.ERROR, "INTERNAL"),
    }


async def test_a_line_has_the_number_of_its_trace(
    models: Path, exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with serving(models, otlp_endpoint=ENDPOINT, log_requests="all") as running:
        await calls.predict(running, SAMPLED)
        await eventually(lambda: roots(exporter), "the span")
    [fields] = [each.fields for each in caplog.records if each.name == "nextvalue.requests"]  # type: ignore[attr-defined]
    assert fields["trace_id"] == TRACE


async def test_a_collector_that_is_not_there(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Calls are answered, and the server ends in time."""
    loop = asyncio.get_running_loop()
    async with serving(models, otlp_endpoint=ENDPOINT, trace_share=1) as running:
        await calls.predict(running)
        stopping = loop.time()
        await running.stop()
        assert loop.time() - stopping < 10
    assert running.sample("nextvalue_requests_total", model="demo", version="1", rpc="Predict", code="OK") == 1


def test_it_is_imported_only_when_it_is_asked_for() -> None:
    code = (
        "import sys; import server.app, server.worker.worker, server.supervisor.supervisor;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.watch.choose.find_spec", lambda _: None)
    config = make_config(Path(), otlp_endpoint=ENDPOINT)
    with pytest.raises(StartupError, match=r"opentelemetry is not installed \(nextvalue\[otel\]\)"):
        chosen_watch(config)
