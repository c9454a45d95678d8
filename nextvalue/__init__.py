"""What a client of Nextvalue installs: next-value predictions for time series, over gRPC.

    from nextvalue import Client

    with Client("127.0.0.1:50051") as client:
        prediction = client.predict("demo", [45, 46, 47, 48, 49], horizon=5)

`AsyncClient` is the same for asyncio; `python -m nextvalue` the same for a shell.
"""

from nextvalue.aio import AsyncClient
from nextvalue.client import Client
from nextvalue.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NextvalueError,
    NotFound,
    Overloaded,
    PermissionDenied,
    ServerError,
    Unauthenticated,
    Unavailable,
    UnexpectedStatus,
    Unimplemented,
)
from nextvalue.health import HealthStatus
from nextvalue.results import Model, ModelDescription, ModelState, ModelVersion, Prediction
from nextvalue.retry import RetryPolicy
from nextvalue.security import Tls

__all__ = [
    "AsyncClient",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "FailedPrecondition",
    "HealthStatus",
    "InvalidArgument",
    "Model",
    "ModelDescription",
    "ModelState",
    "ModelVersion",
    "NextvalueError",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "Prediction",
    "RetryPolicy",
    "ServerError",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedStatus",
    "Unimplemented",
]
