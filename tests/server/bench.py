"""A batcher on a made-up engine whose answers depend on every value of a window and its place."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from server.batcher import Answer, Batcher
from server.metrics import Metrics
from server.scheduler import Scheduler
from tests.server.harness import LIMIT_SECONDS, eventually

Windows = NDArray[np.float32]
WINDOW = 4


def following(windows_BTF: Windows) -> Windows:
    """A prediction [B, 1] that no other window of the test shares."""
    weights = np.arange(1, windows_BTF[0].size + 1, dtype=np.float64).reshape(windows_BTF.shape[1:])
    sums_B = (windows_BTF * weights).sum(axis=(1, 2), dtype=np.float64)
    return np.asarray(np.tanh(sums_B / 100)[:, None], np.float32)


def slid(windows_NTF: Windows, horizon: int, future_NHF: Windows | None = None) -> Windows:
    """The right answer: the loop over the horizon written out."""
    predictions = []
    for k in range(horizon):
        predictions.append(following(windows_NTF))
        row = predictions[-1]
        if k + 1 < horizon:
            if future_NHF is not None:
                row = np.concatenate((row, future_NHF[:, k]), axis=1)
            windows_NTF = np.concatenate((windows_NTF[:, 1:], row[:, None]), axis=1)
    return np.concatenate(predictions, axis=1)


class FakeEngine:
    """Runs are held until let go; every batch is remembered. `raises` spoils runs by number, `change` all of them."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.raises: dict[int, Exception] = {}
        self.change: Callable[[Windows, Windows], Windows] = lambda _, predictions: predictions

    def run(self, windows_BTF: Windows) -> Windows:
        assert windows_BTF.flags.c_contiguous
        self.batches.append(len(windows_BTF))
        assert self.go.wait(LIMIT_SECONDS)
        if error := self.raises.get(len(self.batches)):
            raise error
        return self.change(windows_BTF, following(windows_BTF))

    async def running(self, num_batches: int = 1) -> None:
        await eventually(lambda: len(self.batches) >= num_batches, "a run")


class Bench:
    """A batcher on a fake engine, and its metrics."""

    def __init__(self, *, max_batch_windows: int = 8, max_queue_windows: int = 1000) -> None:
        self.engine = FakeEngine()
        self.registry = CollectorRegistry()
        self.scheduler = Scheduler(max_batch_windows=max_batch_windows, max_queue_windows=max_queue_windows)
        self.observed: list[tuple[Windows, Windows]] = []
        self.batcher = Batcher(
            self.engine.run,
            scheduler=self.scheduler,
            metrics=Metrics(self.registry).for_model("m", 3),
            observe=self._observe,
            name="m",
        )

    def _observe(self, windows_BTF: Windows, next_B1: Windows) -> None:
        self.observed.append((windows_BTF, next_B1))

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, {"model": "m"} | labels) or 0.0

    def call(self, windows: Windows, **options: Any) -> asyncio.Task[Answer]:
        return asyncio.create_task(self.batcher.predict(windows, **options))

    async def queued(self, num_windows: int) -> None:
        await eventually(lambda: self.scheduler.queued_windows == num_windows, f"{num_windows} windows in the queue")


@asynccontextmanager
async def bench(**options: int) -> AsyncIterator[Bench]:
    made = Bench(**options)
    try:
        yield made
    finally:
        made.engine.go.set()
        made.batcher.close()


def random_windows(generator: np.random.Generator, num_windows: int, num_features: int = 1) -> Windows:
    return generator.standard_normal((num_windows, WINDOW, num_features), np.float32)


async def within_limit(work: Coroutine[Any, Any, Answer] | asyncio.Task[Answer]) -> Answer:
    """An answer that never comes is a failure, not a hang."""
    return await asyncio.wait_for(work, LIMIT_SECONDS)
