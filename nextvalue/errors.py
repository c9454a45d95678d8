"""What a call can fail with.

    NextvalueError
    ├── InvalidArgument      a field is wrong, said by the server or by the client before sending (a ValueError)
    ├── NotFound             no such model or version
    ├── Overloaded           the server's queue is full, or a message is beyond a size limit
    ├── DeadlineExceeded     no answer within the call's timeout, retries included
    ├── Unavailable          not reachable, not ready, or draining, and retries did not help
    ├── Cancelled            the call was given up: its client was closed, or the server cancelled it
    ├── FailedPrecondition   the server's state does not allow the call
    ├── Unimplemented        the server does not offer the call, or has it switched off
    ├── Unauthenticated      the caller is not known
    ├── PermissionDenied     the caller is known and not allowed
    ├── ServerError          the server's fault, or a reply that makes no sense
    └── UnexpectedStatus     a status that this service does not use

Cancelling the task that awaits an `AsyncClient` call is not an error of the call: it raises `asyncio.CancelledError`.
"""

import grpc


class NextvalueError(Exception):
    """A call failed. `code` is its gRPC status, `details` the server's words or the client's own."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details

    def __str__(self) -> str:
        return f"{self.code.name}: {self.details}" if self.details else self.code.name


class InvalidArgument(NextvalueError, ValueError):
    """A field is wrong; the message names the field, its value and the limit."""


class NotFound(NextvalueError):
    """No such model or version."""


class Overloaded(NextvalueError):
    """The server's queue is full, or a message is beyond a size limit."""


class DeadlineExceeded(NextvalueError):
    """No answer within the call's timeout, retries included."""


class Unavailable(NextvalueError):
    """Not reachable, not ready, or draining, and retries did not help."""


class Cancelled(NextvalueError):
    """The call was given up: its client was closed, or the server cancelled it."""


class FailedPrecondition(NextvalueError):
    """The server's state does not allow the call."""


class Unimplemented(NextvalueError):
    """The server does not offer the call, or has it switched off."""


class Unauthenticated(NextvalueError):
    """The caller is not known."""


class PermissionDenied(NextvalueError):
    """The caller is known and not allowed."""


class ServerError(NextvalueError):
    """The server's fault, or a reply that makes no sense."""


class UnexpectedStatus(NextvalueError):
    """A status that this service does not use."""


ERROR_OF_STATUS: dict[grpc.StatusCode, type[NextvalueError]] = {
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNKNOWN: ServerError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: UnexpectedStatus,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: UnexpectedStatus,
    grpc.StatusCode.OUT_OF_RANGE: UnexpectedStatus,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.INTERNAL: ServerError,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: ServerError,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
}


def from_rpc_error(error: grpc.RpcError) -> NextvalueError:
    """Our error for one that gRPC raised, of the sync or of the asyncio API."""
    code = error.code()
    return ERROR_OF_STATUS.get(code, UnexpectedStatus)(code, error.details() or "")


def invalid(details: str) -> InvalidArgument:
    """An argument that the client refuses before sending anything."""
    return InvalidArgument(grpc.StatusCode.INVALID_ARGUMENT, details)
