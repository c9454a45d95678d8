"""Values that processes of their own write, on one page."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from server.metrics import Metrics
from server.supervisor.page import VARIABLE, MetricsFolder

# A worker's metrics, as it writes them; prints its process id.
WRITER = """
import os
from prometheus_client import CollectorRegistry
from server.metrics import Metrics
metrics = Metrics(CollectorRegistry(), shared=True)
metrics.requests.labels("m", "1", "Predict", "OK").inc(3)
for seconds in (1e-6, 0.3):
    metrics.request_seconds.labels("m", "Predict").observe(seconds)
children = metrics.for_model("m", 1)
children.queue_windows.set_function(lambda: 7.0)
metrics.write_queues()
metrics.model_info.labels("m", "1", "lstm", "CPU").set(1)
metrics.model_info.labels("m", "2", "lstm", "CPU").set(1)
metrics.drop(metrics.model_info, "m", "2", "lstm", "CPU")
metrics.graph_nodes.labels("m", "1", "CPU").set(90)
print(os.getpid())
"""

CALLS = {"model": "m", "version": "1", "rpc": "Predict", "code": "OK"}
INFO = {"model": "m", "cell": "lstm", "provider": "CPU"}


@pytest.fixture
def folder() -> Iterator[MetricsFolder]:
    folder = MetricsFolder()
    yield folder
    folder.close()
    assert not folder.path.exists()


def write(folder: MetricsFolder) -> int:
    """A process that writes and ends; its id."""
    environ = {**os.environ, VARIABLE: str(folder.path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WRITER], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def read(folder: MetricsFolder, name: str, labels: dict[str, str]) -> float | None:
    registry = CollectorRegistry()
    registry.register(folder)
    return registry.get_sample_value(name, labels)


def test_two_processes_add_up(folder: MetricsFolder) -> None:
    pids = [write(folder), write(folder)]
    assert read(folder, "nextvalue_requests_total", CALLS) == 6
    assert read(folder, "nextvalue_request_seconds_count", {"model": "m", "rpc": "Predict"}) == 4
    assert read(folder, "nextvalue_request_seconds_bucket", {"model": "m", "rpc": "Predict", "le": "5e-05"}) == 2
    assert read(folder, "nextvalue_queue_windows", {"model": "m"}) == 14
    assert read(folder, "nextvalue_graph_nodes", {"model": "m", "version": "1", "provider": "CPU"}) == 90
    assert read(folder, "nextvalue_model_info", {**INFO, "version": "1"}) == 1
    assert read(folder, "nextvalue_model_info", {**INFO, "version": "2"}) == 0, "dropped"
    registry = CollectorRegistry()
    registry.register(folder)
    assert b"pid=" not in generate_latest(registry)

    folder.gone(pids[0])
    folder.gone(pids[0])
    assert read(folder, "nextvalue_requests_total", CALLS) == 6, "what was counted stays"
    assert read(folder, "nextvalue_request_seconds_bucket", {"model": "m", "rpc": "Predict", "le": "5e-05"}) == 2
    assert read(folder, "nextvalue_queue_windows", {"model": "m"}) == 7, "what waited there is gone"
    folder.gone(pids[1])
    assert read(folder, "nextvalue_requests_total", CALLS) == 6
    assert read(folder, "nextvalue_request_seconds_count", {"model": "m", "rpc": "Predict"}) == 4
    assert read(folder, "nextvalue_model_info", {**INFO, "version": "1"}) is None
    assert sorted(path.name for path in folder.path.iterdir()) == ["counter_gone.db", "histogram_gone.db"]
    write(folder)
    assert read(folder, "nextvalue_requests_total", CALLS) == 9


def test_a_process_that_died_before_it_wrote_anything(folder: MetricsFolder) -> None:
    """Its file is empty, which prometheus_client cannot read; so is a living one's for a moment."""
    write(folder)
    (folder.path / "counter_1.db").touch()
    assert read(folder, "nextvalue_requests_total", CALLS) == 3
    folder.gone(1)
    assert read(folder, "nextvalue_requests_total", CALLS) == 3


def test_every_gauge_says_how_it_is_joined() -> None:
    """The default shows each process's own under a label with its id."""
    metrics = Metrics(CollectorRegistry())
    modes = {
        each._name: each._multiprocess_mode
        for each in vars(metrics).values()
        if isinstance(each, MetricWrapperBase) and isinstance(each, Gauge)
    }
    assert modes == {
        "nextvalue_queue_windows": "livesum",
        "nextvalue_model_info": "livemax",
        "nextvalue_graph_nodes": "livemax",
        "nextvalue_graph_nodes_elsewhere": "livemax",
        "nextvalue_versions": "livemax",
    }
