"""Every family on the Prometheus page. Base units, bounded labels, one registry passed down."""

from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from server.statistics import Statistics

# The label of a model name that nobody has, so that callers cannot grow the page.
UNKNOWN_MODEL = "_unknown"

_SECONDS = (
    50e-6,
    100e-6,
    200e-6,
    400e-6,
    800e-6,
    1.6e-3,
    3.2e-3,
    6.4e-3,
    12.8e-3,
    25.6e-3,
    51.2e-3,
    0.1024,
    0.25,
    0.5,
    1,
    2.5,
    5,
)
_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_ABS_ERROR = tuple(10.0**exponent for exponent in range(-9, 4))


class QueueWindows:
    """One version's part of its model's gauge, which adds up all versions of the model."""

    def __init__(self, version: int, counts: dict[int, Callable[[], float]]) -> None:
        """`counts` is by version, and shared by all of a model."""
        self._version = version
        self._counts = counts

    def set_function(self, count: Callable[[], float]) -> None:
        """So many windows as `count` says wait for this version."""
        self._counts[self._version] = count


@dataclass(frozen=True)
class ModelMetrics:
    """One version's own children, looked up once, and its running totals."""

    predictions: Counter
    queue_seconds: Histogram
    run_seconds: Histogram
    batch_windows: Histogram
    queue_windows: QueueWindows
    statistics: Statistics = field(default_factory=Statistics)

    def ran(self, num_windows: int, seconds: float) -> None:
        """The engine ran once, for so many windows."""
        self.run_seconds.observe(seconds)
        self.batch_windows.observe(num_windows)
        self.statistics.ran(num_windows, seconds)


class Metrics:
    """The families, registered on `registry`.

    `shared`: one of several workers, whose values a page adds up. Counters and histograms are sums; each gauge says how
    it is joined, always over the workers that live, since a dead one holds nothing.
    """

    def __init__(self, registry: CollectorRegistry, *, shared: bool = False) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # process-wide switch: no _created series
        self.registry = registry
        self._shared = shared
        self.requests = Counter(
            "nextvalue_requests_total",
            "Calls answered, by gRPC code.",
            ["model", "version", "rpc", "code"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "nextvalue_request_seconds",
            "Time from a call's arrival to its answer.",
            ["model", "rpc"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.predictions = Counter(
            "nextvalue_predictions_total", "Values predicted.", ["model", "version"], registry=registry
        )
        self.phase_seconds = Histogram(
            "nextvalue_phase_seconds",
            "Time per phase: queue (a call waiting for the engine), run (the engine, once per batch).",
            ["model", "phase"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_windows = Histogram(
            "nextvalue_batch_windows", "Windows per run of the engine.", ["model"], buckets=_WINDOWS, registry=registry
        )
        self.queue_windows = Gauge(
            "nextvalue_queue_windows",
            "Windows waiting for the engine.",
            ["model"],
            registry=registry,
            multiprocess_mode="livesum",  # each worker has a queue of its own
        )
        self._queues: dict[str, dict[int, Callable[[], float]]] = {}
        self.rejected = Counter(
            "nextvalue_rejected_total",
            "Calls that were not answered: queue_full, deadline, draining, not_ready.",
            ["model", "reason"],
            registry=registry,
        )
        self.parity_checks = Counter(
            "nextvalue_parity_checks_total",
            "Runs compared with the PyTorch reference: match, mismatch, or dropped unchecked.",
            ["model", "version", "result"],
            registry=registry,
        )
        self.parity_abs_error = Histogram(
            "nextvalue_parity_abs_error",
            "Largest distance to the reference per check, in the series' own units.",
            ["model", "version"],
            buckets=_ABS_ERROR,
            registry=registry,
        )
        self.unknown_series = Counter(
            "nextvalue_unknown_series_total",
            "Windows answered with a model's default scale, since it does not know their series.",
            ["model", "version"],
            registry=registry,
        )
        self.model_info = Gauge(
            "nextvalue_model_info",
            "1 for every version served.",
            ["model", "version", "cell", "provider"],
            registry=registry,
            multiprocess_mode="livemax",  # 1 as long as one worker serves it
        )
        self.graph_nodes = Gauge(
            "nextvalue_graph_nodes",
            "Nodes of the served graphs, by the execution provider they were assigned to.",
            ["model", "version", "provider"],
            registry=registry,
            multiprocess_mode="livemax",  # the same graphs in each worker: no sum
        )
        self.graph_nodes_elsewhere = Gauge(
            "nextvalue_graph_nodes_elsewhere",
            "Nodes of the served graphs that are not on the version's provider, and Memcpy nodes: 0 if all is well.",
            ["model", "version", "provider"],
            registry=registry,
            multiprocess_mode="livemax",  # the worst worker's
        )

        self.versions = Gauge(
            "nextvalue_versions",
            "Versions of a model by what became of them: loading, serving, failed (not served, for a fault), standby.",
            ["model", "state"],
            multiprocess_mode="livemax",  # each worker sees the same folder
            registry=registry,
        )

    def for_model(self, model: str, version: int) -> ModelMetrics:
        """The children of one version."""
        return ModelMetrics(
            predictions=self.predictions.labels(model, str(version)),
            queue_seconds=self.phase_seconds.labels(model, "queue"),
            run_seconds=self.phase_seconds.labels(model, "run"),
            batch_windows=self.batch_windows.labels(model),
            queue_windows=QueueWindows(version, self._queue_counts(model)),
        )

    def _queue_counts(self, model: str) -> dict[int, Callable[[], float]]:
        """What waits, by version of the model; the gauge shows the sum."""
        if model not in self._queues:
            counts = self._queues[model] = {}
            child = self.queue_windows.labels(model)
            if not self._shared:
                # The page is read on another thread.
                child.set_function(lambda: sum(count() for count in list(counts.values())))
        return self._queues[model]

    def write_queues(self) -> None:
        """Of a worker: nobody can ask another process' functions, so it writes down now and then what they say."""
        for model, counts in self._queues.items():
            self.queue_windows.labels(model).set(sum(count() for count in counts.values()))

    def drop(self, gauge: Gauge, *labels: str) -> None:
        """What the gauge told of is gone, and so is its line; of a page of several workers none goes: it shows 0."""
        if self._shared:
            gauge.labels(*labels).set(0)
        else:
            gauge.remove(*labels)

    def forget_queue(self, model: str, version: int) -> None:
        """Nothing will wait for this version any more."""
        self._queues.get(model, {}).pop(version, None)

    def forget_queues(self, knows: Callable[[str], bool]) -> None:
        """Nor for any version of a model that nobody `knows` any more."""
        self._queues = {model: counts for model, counts in self._queues.items() if knows(model)}
