"""The metrics page's numbers as the status page needs them, and what happened between two looks."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import Metric

# Of these a caller waits for predictions.
PREDICTING = ("Predict", "ModelInfer", "ModelStreamInfer")
# Codes that are the server's own fault.
FAULTS = ("INTERNAL", "UNKNOWN")

Buckets = dict[float, float]


@dataclass
class Counts:
    """`at` is on a monotonic clock, seconds. Codes and rejections are by model. Buckets are cumulative, by end."""

    at: float
    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    predictions: Counter[str] = field(default_factory=Counter)
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: dict[str, Buckets] = field(default_factory=dict)
    queue: Counter[str] = field(default_factory=Counter)
    parity: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    parity_error: dict[tuple[str, str], Buckets] = field(default_factory=dict)

    @classmethod
    def of(cls, families: Iterable[Metric], at: float) -> "Counts":
        """What a registry has."""
        counts = cls(at)
        for family in families:
            for sample in family.samples:
                counts._take(sample.name, sample.labels, sample.value)
        return counts

    def _take(self, name: str, labels: Mapping[str, str], value: float) -> None:
        model, version = labels.get("model", ""), labels.get("version", "")
        match name:
            case "nextvalue_requests_total":
                self.codes[model, labels["code"]] += _whole(value)
            case "nextvalue_predictions_total":
                self.predictions[model] += _whole(value)
            case "nextvalue_rejected_total":
                self.rejected[model, labels["reason"]] += _whole(value)
            case "nextvalue_queue_windows":
                self.queue[model] += _whole(value)
            case "nextvalue_parity_checks_total":
                self.parity[model, version, labels["result"]] += _whole(value)
            case "nextvalue_request_seconds_bucket" if labels["rpc"] in PREDICTING:
                _add(self.seconds.setdefault(model, {}), labels["le"], value)
            case "nextvalue_parity_abs_error_bucket":
                _add(self.parity_error.setdefault((model, version), {}), labels["le"], value)

    def since(self, earlier: "Counts") -> "Counts":
        """What was counted after `earlier`; the queue is as it is. Series that have left the page count nothing."""
        return Counts(
            at=self.at,
            # Subtracting counters keeps what is above 0.
            codes=self.codes - earlier.codes,
            predictions=self.predictions - earlier.predictions,
            rejected=self.rejected - earlier.rejected,
            seconds={model: _less(buckets, earlier.seconds.get(model, {})) for model, buckets in self.seconds.items()},
            queue=self.queue,
            parity=self.parity - earlier.parity,
            parity_error={
                key: _less(buckets, earlier.parity_error.get(key, {})) for key, buckets in self.parity_error.items()
            },
        )

    def calls(self, model: str | None = None, codes: tuple[str, ...] = ()) -> int:
        """How many calls ended, of a model or of all, with one of the codes or with any."""
        return sum(
            count for (of, code), count in self.codes.items() if model in (None, of) and (not codes or code in codes)
        )

    def buckets(self, model: str | None = None) -> Buckets:
        """Times of calls for predictions, of a model or of all."""
        summed: Buckets = {}
        for of, buckets in self.seconds.items():
            if model in (None, of):
                for end, count in buckets.items():
                    summed[end] = summed.get(end, 0) + count
        return summed


def _whole(value: float) -> int:
    return round(value) if math.isfinite(value) else 0


def _add(buckets: Buckets, end: str, value: float) -> None:
    buckets[float(end)] = buckets.get(float(end), 0) + value


def _less(buckets: Buckets, earlier: Buckets) -> Buckets:
    return {end: max(count - earlier.get(end, 0), 0) for end, count in buckets.items()}


def quantile(share: float, buckets: Buckets) -> float | None:
    """As Prometheus' histogram_quantile has it: evenly spread within a bucket. None of nothing.

    Beyond the last end that is finite: infinite.
    """
    ends = sorted(buckets)
    total = buckets[ends[-1]] if ends else 0
    if total <= 0:
        return None
    wanted, start, before = share * total, 0.0, 0.0
    for end in ends:
        if buckets[end] >= wanted:
            return start + (end - start) * (wanted - before) / max(buckets[end] - before, 1e-12)
        start, before = end, buckets[end]
    return math.inf


def highest(buckets: Buckets) -> float | None:
    """The upper end of the highest bucket that has something. None of nothing."""
    before = 0.0
    found = None
    for end in sorted(buckets):
        if buckets[end] > before:
            found, before = end, buckets[end]
    return found
