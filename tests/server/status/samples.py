"""Metrics with numbers in them."""

from prometheus_client import CollectorRegistry

from server.metrics import Metrics


class Counted:
    """Metrics, a registry, and a clock that a test sets."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def calls(self, count: int, seconds: float, *, model: str = "m", code: str = "OK", rpc: str = "Predict") -> None:
        self.metrics.requests.labels(model, "1", rpc, code).inc(count)
        for _ in range(count):
            self.metrics.request_seconds.labels(model, rpc).observe(seconds)
