"""Numbers of the metrics page, and what happened between two looks."""

import math

import pytest

from server.status.counts import Counts, highest, quantile
from tests.server.status.samples import Counted


def look(counted: Counted) -> Counts:
    return Counts.of(counted.registry.collect(), counted.now)


def test_every_kind_is_taken() -> None:
    counted = Counted()
    metrics = counted.metrics
    counted.calls(3, 0.01)
    counted.calls(2, 0.02, model="n", code="INTERNAL", rpc="ModelInfer")
    counted.calls(4, 9.0, model="", rpc="ListModels")
    metrics.predictions.labels("m", "1").inc(7)
    metrics.predictions.labels("m", "2").inc(1)
    metrics.rejected.labels("m", "queue_full").inc(5)
    metrics.for_model("m", 1).queue_windows.set_function(lambda: 6.0)
    metrics.parity_checks.labels("m", "1", "match").inc(8)
    metrics.parity_abs_error.labels("m", "1").observe(3e-6)
    counts = look(counted)
    assert counts.codes == {("m", "OK"): 3, ("n", "INTERNAL"): 2, ("", "OK"): 4}
    assert (counts.calls(), counts.calls("m"), counts.calls(codes=("INTERNAL",))) == (9, 3, 2)
    assert counts.predictions == {"m": 8}
    assert counts.rejected == {("m", "queue_full"): 5}
    assert counts.queue == {"m": 6}
    assert counts.parity == {("m", "1", "match"): 8}
    assert highest(counts.parity_error["m", "1"]) == pytest.approx(1e-5)
    assert set(counts.seconds) == {"m", "n"}, "times of calls for predictions alone"
    assert counts.buckets()[math.inf] == 5


def test_the_difference_of_two_looks() -> None:
    counted = Counted()
    counted.calls(3, 0.01)
    before = look(counted)
    counted.calls(2, 0.3)
    counted.calls(1, 0.3, code="INTERNAL")
    since = look(counted).since(before)
    assert since.codes == {("m", "OK"): 2, ("m", "INTERNAL"): 1}
    assert since.buckets()[0.0128] == 0
    assert since.buckets()[0.5] == 3


def test_what_left_the_page_counts_nothing() -> None:
    """A version that goes takes its counters along; one that comes begins at nothing."""
    counted = Counted()
    counted.calls(3, 0.01, model="gone")
    before = look(counted)
    counted.metrics.requests.remove_by_labels({"model": "gone"})
    counted.metrics.request_seconds.remove_by_labels({"model": "gone"})
    counted.calls(2, 0.01, model="come")
    since = look(counted).since(before)
    assert since.codes == {("come", "OK"): 2}
    assert since.buckets()[math.inf] == 2


def test_quantiles_are_those_of_prometheus() -> None:
    buckets = {1.0: 2.0, 2.0: 6.0, 4.0: 10.0, math.inf: 10.0}
    assert quantile(0.5, buckets) == pytest.approx(1 + 3 / 4)
    assert quantile(0.1, buckets) == pytest.approx(0.5)
    assert quantile(1.0, buckets) == pytest.approx(4)
    assert quantile(0.5, {1.0: 0.0, math.inf: 3.0}) == math.inf
    assert quantile(0.5, {}) is None
    assert quantile(0.5, {1.0: 0.0, math.inf: 0.0}) is None


def test_the_highest_bucket_with_something() -> None:
    assert highest({1.0: 2.0, 2.0: 6.0, 4.0: 6.0, math.inf: 6.0}) == 2.0
    assert highest({1.0: 0.0, math.inf: 1.0}) == math.inf
    assert highest({1.0: 0.0}) is None
