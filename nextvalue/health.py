"""The one call of `grpc.health.v1` that a client needs, without registering that package's symbols.

grpcio-health-checking is the server's dependency, and a second copy of its descriptors in one process would clash. The
two messages have one field each, and protobuf's own wrappers have the same bytes: `HealthCheckRequest.service` is
string field 1, as is `StringValue.value`; `HealthCheckResponse.status` is an enum, a varint, in field 1, as is
`Int32Value.value`.
"""

from enum import StrEnum

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

CHECK_METHOD = "/grpc.health.v1.Health/Check"


class HealthStatus(StrEnum):
    """What a server says about a service of its own."""

    UNKNOWN = "UNKNOWN"
    SERVING = "SERVING"
    NOT_SERVING = "NOT_SERVING"
    SERVICE_UNKNOWN = "SERVICE_UNKNOWN"


_STATUS_OF_NUMBER = dict(enumerate(HealthStatus))  # in the order of the .proto


def encode_service(service: str) -> bytes:
    """A `HealthCheckRequest`."""
    return StringValue(value=service).SerializeToString()


def decode_status(message: bytes) -> HealthStatus:
    """A `HealthCheckResponse`; a status from the future is `UNKNOWN`."""
    return _STATUS_OF_NUMBER.get(Int32Value.FromString(message).value, HealthStatus.UNKNOWN)
