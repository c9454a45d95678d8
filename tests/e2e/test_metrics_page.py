"""After traffic of every kind the page has a sample of every family of DESIGN §8, and promtool has nothing to say."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from nextvalue import Client, InvalidArgument, NotFound
from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub
from tests.server.harness import LIMIT_SECONDS, eventually_sync, predict_request, server_process
from tests.server.test_metrics import FAMILIES

pytestmark = pytest.mark.e2e

# Nothing waits any more, and every node runs where it should.
ZERO_WHERE_ALL_IS_WELL = ("nextvalue_queue_windows", "nextvalue_graph_nodes_elsewhere")


@pytest.fixture(scope="module")
def page(models: Path) -> Iterator[str]:
    """The page of a server that answered, refused, shed and was checked."""
    window = [1.0, 2.0, 3.0, 4.0, 5.0]
    options = ["--reference", "auto", "--parity-share", "1", "--max-queue-windows", "1"]
    with server_process(models, *options) as process:
        process.await_ready()
        with Client(process.target) as client:
            client.predict("demo", window, horizon=3)
            times = np.arange(6) * 3600
            client.predict("demand", np.ones((2, 6, 2)), times=times, series=["shop-a", "nobody"], intervals=True)
            with pytest.raises(InvalidArgument):
                client.predict("demo", window[:3])
            with pytest.raises(NotFound):
                client.predict("nobody", window)
        with grpc.insecure_channel(process.target) as channel:
            # The first runs for long, the second waits, the third at the latest is shed.
            request = predict_request("demo", np.zeros((512, 5, 1), np.float32), horizon=500)
            calls = [NextValueStub(channel).Predict.future(request, timeout=LIMIT_SECONDS) for _ in range(3)]
            codes = [call.code() for call in calls]
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
        eventually_sync(lambda: re.search(r'checks_total{.*result="match".*} [1-9]', process.page()), "a parity check")
        yield process.page()


@pytest.mark.live
def test_every_family_has_a_sample(page: str) -> None:
    samples: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample)
    for name, (kind, labels) in FAMILIES.items():
        found = samples.get(f"{name}_count" if kind == "histogram" else name, [])
        assert found, f"{name} has no sample"
        assert any(sample.value > 0 for sample in found) or name in ZERO_WHERE_ALL_IS_WELL
        assert all(set(sample.labels) == set(labels) for sample in found)
    shed = {sample.labels["reason"]: sample.value for sample in samples["nextvalue_rejected_total"] if sample.value}
    by_code = {sample.labels["code"]: sample.value for sample in samples["nextvalue_requests_total"]}
    assert set(by_code) == {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}
    # The second may come while the first is between two of its runs, and waits.
    assert 1 <= by_code["RESOURCE_EXHAUSTED"] <= 2
    assert shed == {"queue_full": by_code["RESOURCE_EXHAUSTED"]}
    assert "nobody" not in page


@pytest.mark.live
def test_promtool_has_nothing_to_say(page: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (package prometheus)")
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
