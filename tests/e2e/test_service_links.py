"""A Service called nextvalue makes variables that look like our options: the server starts, and obeys none of them."""

from pathlib import Path

import pytest

from nextvalue import Client, HealthStatus
from tests.server.harness import server_process

pytestmark = pytest.mark.e2e

# What the kubelet sets for a Service of two named ports, and for the headless one beside it.
LINKS = {
    "NEXTVALUE_SERVICE_HOST": "10.96.3.4",
    "NEXTVALUE_SERVICE_PORT": "50051",
    "NEXTVALUE_SERVICE_PORT_GRPC": "50051",
    "NEXTVALUE_SERVICE_PORT_METRICS": "9464",
    "NEXTVALUE_PORT": "tcp://10.96.3.4:50051",
    "NEXTVALUE_PORT_50051_TCP": "tcp://10.96.3.4:50051",
    "NEXTVALUE_PORT_50051_TCP_PROTO": "tcp",
    "NEXTVALUE_PORT_50051_TCP_PORT": "50051",
    "NEXTVALUE_PORT_50051_TCP_ADDR": "10.96.3.4",
    "NEXTVALUE_PORT_9464_TCP": "tcp://10.96.3.4:9464",
    "NEXTVALUE_PORT_9464_TCP_PORT": "9464",
    "NEXTVALUE_PODS_SERVICE_HOST": "None",
    "NEXTVALUE_PODS_SERVICE_PORT": "50051",
    "NEXTVALUE_PODS_PORT": "tcp://None:50051",
}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_server_starts(models: Path, workers: str) -> None:
    with server_process(models, "--reference", "off", "--workers", workers, environ=LINKS) as process:
        process.await_ready()
        with Client(process.target) as client:
            assert client.health() is HealthStatus.SERVING
            assert client.predict("demo", [1.0, 2.0, 3.0, 4.0, 5.0]).values.shape == (1,)
        process.terminate()
        assert process.wait() == 0, process.log


def test_what_is_no_link_is_still_found(models: Path) -> None:
    with server_process(models, "--reference", "off", environ={**LINKS, "NEXTVALUE_PORTS": "50051"}) as process:
        assert process.wait() == 1
    assert process.lines == ["server: environment variable NEXTVALUE_PORTS names no option"]
