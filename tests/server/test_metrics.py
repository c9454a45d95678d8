"""The families of DESIGN §8, with exactly those labels and base units."""

import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from server.metrics import Metrics

FAMILIES = {
    "nextvalue_requests_total": ("counter", ("model", "version", "rpc", "code")),
    "nextvalue_request_seconds": ("histogram", ("model", "rpc")),
    "nextvalue_predictions_total": ("counter", ("model", "version")),
    "nextvalue_phase_seconds": ("histogram", ("model", "phase")),
    "nextvalue_batch_windows": ("histogram", ("model",)),
    "nextvalue_queue_windows": ("gauge", ("model",)),
    "nextvalue_rejected_total": ("counter", ("model", "reason")),
    "nextvalue_parity_checks_total": ("counter", ("model", "version", "result")),
    "nextvalue_parity_abs_error": ("histogram", ("model", "version")),
    "nextvalue_unknown_series_total": ("counter", ("model", "version")),
    "nextvalue_model_info": ("gauge", ("model", "version", "cell", "provider")),
    "nextvalue_graph_nodes": ("gauge", ("model", "version", "provider")),
    "nextvalue_graph_nodes_elsewhere": ("gauge", ("model", "version", "provider")),
    "nextvalue_versions": ("gauge", ("model", "state")),
}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


def families(metrics: Metrics) -> dict[str, MetricWrapperBase]:
    """By the name on the page."""
    found = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    return {f"{one._name}_total" if one._type == "counter" else one._name: one for one in found}


def test_every_family_is_there_and_no_other(metrics: Metrics) -> None:
    assert {name: (one._type, one._labelnames) for name, one in families(metrics).items()} == FAMILIES


@pytest.mark.parametrize("name", FAMILIES)
def test_a_sample_is_read_back(metrics: Metrics, registry: CollectorRegistry, name: str) -> None:
    kind, labels = FAMILIES[name]
    values = {label: f"a {label}" for label in labels}
    child = families(metrics)[name].labels(**values)
    if kind == "histogram":
        child.observe(1e-9)  # type: ignore[attr-defined]
        assert registry.get_sample_value(f"{name}_count", values) == 1
        assert registry.get_sample_value(f"{name}_sum", values) == 1e-9
    else:
        child.inc(3)  # type: ignore[attr-defined]
        assert registry.get_sample_value(name, values) == 3


def test_names_say_their_base_unit(metrics: Metrics) -> None:
    for name, one in families(metrics).items():
        assert one._documentation.endswith(".")
        assert not re.search(r"(milli|micro|nano|_ms|_us|_ns|minutes|hours)", name)


def test_seconds_start_at_50_microseconds(metrics: Metrics) -> None:
    for one in (metrics.request_seconds, metrics.phase_seconds):
        assert one._upper_bounds[0] == 50e-6
        assert one._upper_bounds == sorted(one._upper_bounds)
        assert one._upper_bounds[-1] == float("inf")


def test_two_servers_in_one_process_do_not_meet(metrics: Metrics) -> None:
    """Nothing is on the global registry."""
    other = CollectorRegistry()
    Metrics(other).rejected.labels("m", "queue_full").inc()
    assert metrics.registry.get_sample_value("nextvalue_rejected_total", {"model": "m", "reason": "queue_full"}) is None


def test_no_created_series(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.requests.labels("m", "1", "Predict", "OK").inc()
    metrics.request_seconds.labels("m", "Predict").observe(1)
    assert b"_created" not in generate_latest(registry)


def test_the_children_of_a_version(metrics: Metrics, registry: CollectorRegistry) -> None:
    children = metrics.for_model("m", 4)
    children.predictions.inc(2)
    children.queue_seconds.observe(1)
    children.run_seconds.observe(1)
    children.batch_windows.observe(5)
    children.queue_windows.set_function(lambda: 7.0)
    read = registry.get_sample_value
    assert read("nextvalue_predictions_total", {"model": "m", "version": "4"}) == 2
    assert read("nextvalue_phase_seconds_count", {"model": "m", "phase": "queue"}) == 1
    assert read("nextvalue_phase_seconds_count", {"model": "m", "phase": "run"}) == 1
    assert read("nextvalue_batch_windows_sum", {"model": "m"}) == 5
    assert read("nextvalue_queue_windows", {"model": "m"}) == 7
