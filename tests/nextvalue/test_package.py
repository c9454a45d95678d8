import subprocess
import sys
from itertools import permutations

import pytest

import nextvalue

IMPORT_CLIENT = "import nextvalue, nextvalue.aio, nextvalue.client, nextvalue.__main__"
NEIGHBOURS = {
    "client": IMPORT_CLIENT,
    "tritonclient": "import tritonclient.grpc",
    "health": "from grpc_health.v1 import health_pb2, health_pb2_grpc",
}


def run(script: str) -> None:
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("order", list(permutations(NEIGHBOURS)), ids="-".join)
def test_the_client_lives_beside_others_in_one_process(order: tuple[str, ...]) -> None:
    run("\n".join(NEIGHBOURS[name] for name in order))


@pytest.mark.parametrize("symbol", ["inference.GRPCInferenceService", "grpc.health.v1.HealthCheckRequest"])
def test_importing_the_client_registers_no_symbol_of_others(symbol: str) -> None:
    run(
        f"""{IMPORT_CLIENT}
from google.protobuf import descriptor_pool
assert descriptor_pool.Default().FindMessageTypeByName("nextvalue.v1.Model")
try:
    descriptor_pool.Default().FindFileContainingSymbol({symbol!r})
except KeyError:
    pass
else:
    raise SystemExit("registered")
"""
    )


def test_importing_the_client_needs_nothing_it_does_not_depend_on() -> None:
    run(
        f"""import sys
for name in ("grpc_health", "grpc_reflection", "torch", "onnx", "onnxruntime", "msgspec", "prometheus_client",
             "server", "training", "export", "tritonclient"):
    sys.modules[name] = None  # whoever imports it now fails
{IMPORT_CLIENT}
"""
    )


def test_every_public_name_is_there() -> None:
    assert sorted(nextvalue.__all__) == list(nextvalue.__all__)
    assert all(hasattr(nextvalue, name) for name in nextvalue.__all__)
