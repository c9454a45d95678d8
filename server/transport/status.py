"""The one table from errors to gRPC status codes."""

import grpc

from server.errors import (
    DeadlinePassed,
    Draining,
    InvalidRequest,
    LoadFailed,
    ModelNotFound,
    NotAllowed,
    NotFinite,
    NotReady,
    QueueFull,
    RequestError,
    RunFailed,
    SwitchedOff,
    Unauthenticated,
)

STATUS: dict[type[RequestError], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    ModelNotFound: grpc.StatusCode.NOT_FOUND,
    QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    Draining: grpc.StatusCode.UNAVAILABLE,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    NotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    SwitchedOff: grpc.StatusCode.UNIMPLEMENTED,
    LoadFailed: grpc.StatusCode.FAILED_PRECONDITION,
    NotFinite: grpc.StatusCode.INTERNAL,
    RunFailed: grpc.StatusCode.INTERNAL,
}

# The label of nextvalue_rejected_total for errors that turn a call away before a run.
REJECTED: dict[type[RequestError], str] = {
    QueueFull: "queue_full",
    DeadlinePassed: "deadline",
    Draining: "draining",
    NotReady: "not_ready",
}

PUSHBACK = "grpc-retry-pushback-ms"


def trailing_metadata(error: RequestError) -> tuple[tuple[str, str], ...]:
    """What a client's retry policy should know."""
    return ((PUSHBACK, str(error.pushback_ms)),) if isinstance(error, QueueFull) else ()
