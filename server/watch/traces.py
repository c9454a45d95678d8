"""Calls as OpenTelemetry spans. Needs the extra `otel`; nobody else imports this."""

import time

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server.status.software import software
from server.watch.record import Record
from server.watch.watch import Metadata

PARENT, STATE = "traceparent", "tracestate"
NANOSECONDS = 1_000_000_000
# What may be left unsent when the server ends.
FLUSH_MILLISECONDS = 2000

_OPEN_INFERENCE = "inference.GRPCInferenceService"
_SERVICES = dict.fromkeys(("Predict", "ListModels", "GetModel"), "nextvalue.v1.NextValue") | {
    "Check": "grpc.health.v1.Health",
    "Watch": "grpc.health.v1.Health",
    "ServerReflectionInfo": "grpc.reflection.v1alpha.ServerReflection",
}
# Of a server's span these are errors; the others are the caller's own.
_ERRORS = (
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
)


def otlp(endpoint: str) -> SpanProcessor:
    """Sends spans to a collector, in batches, from a thread of its own; what it cannot send it drops."""
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://")))


class Traces:
    """A span for each call that is sampled, with its phases as children.

    The caller's `traceparent` is the parent, and says whether to sample; `share` of the calls without one are sampled.
    """

    def __init__(self, processor: SpanProcessor, *, share: float) -> None:
        resource = Resource.create({"service.name": "nextvalue", "service.version": software().get("nextvalue", "")})
        self._provider = TracerProvider(
            resource=resource,
            sampler=ParentBased(TraceIdRatioBased(share)),
            shutdown_on_exit=False,  # `close` does that
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("nextvalue.server")
        self._propagator = TraceContextTextMapPropagator()
        # By record: the span, and what time.time_ns was when perf_counter was 0.
        self._open: dict[Record, tuple[Span, int]] = {}

    def begin(self, record: Record, metadata: Metadata) -> bool:
        """Whether it is sampled."""
        carried = {key: value for key, value in metadata if key in {PARENT, STATE} and isinstance(value, str)}
        zero = time.time_ns() - time.perf_counter_ns()
        service = _SERVICES.get(record.rpc, _OPEN_INFERENCE)
        span = self._tracer.start_span(
            f"{service}/{record.rpc}",
            context=self._propagator.extract(carried) if carried else None,
            kind=SpanKind.SERVER,
            start_time=_nanoseconds(record.started, zero),
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": record.rpc},
        )
        if not span.is_recording():
            return False
        record.trace_id = f"{span.get_span_context().trace_id:032x}"
        self._open[record] = span, zero
        return True

    def end(self, record: Record) -> None:
        """Its span, and those of its phases."""
        span, zero = self._open.pop(record)
        span.set_attributes(
            {
                "nextvalue.model": record.model,
                "nextvalue.version": record.version,
                "nextvalue.windows": record.windows,
                "rpc.grpc.status_code": record.code.value[0],
                "client.address": record.peer,
            }
        )
        if record.request_id:
            span.set_attribute("nextvalue.request_id", record.request_id)
        inside = set_span_in_context(span)
        for phase in record.phases:
            child = self._tracer.start_span(phase.name, context=inside, start_time=_nanoseconds(phase.start, zero))
            if phase.batch_windows:
                child.set_attribute("nextvalue.batch_windows", phase.batch_windows)
            child.end(_nanoseconds(phase.end, zero))
        if record.code in _ERRORS:
            span.set_status(Status(StatusCode.ERROR, record.code.name))
        span.end(_nanoseconds(record.ended, zero))

    def close(self) -> None:
        """Send what is left, for a while."""
        self._provider.force_flush(FLUSH_MILLISECONDS)
        self._provider.shutdown()


def _nanoseconds(seconds: float, zero: int) -> int:
    return zero + round(seconds * NANOSECONDS)
