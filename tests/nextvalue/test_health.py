import pytest
from grpc_health.v1 import health_pb2

from nextvalue.health import HealthStatus, decode_status, encode_service


@pytest.mark.parametrize("service", ["", "readiness", "größe", "x" * 300], ids=len)
def test_a_request_has_the_bytes_of_the_real_message(service: str) -> None:
    assert encode_service(service) == health_pb2.HealthCheckRequest(service=service).SerializeToString()


@pytest.mark.parametrize("name", health_pb2.HealthCheckResponse.ServingStatus.keys())
def test_every_status_is_read_from_the_real_message(name: str) -> None:
    status = health_pb2.HealthCheckResponse.ServingStatus.Value(name)
    message = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    assert decode_status(message) is HealthStatus[name]


def test_a_status_from_the_future_is_unknown() -> None:
    assert decode_status(health_pb2.HealthCheckResponse(status=77).SerializeToString()) is HealthStatus.UNKNOWN
