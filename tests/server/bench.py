"""A batcher on a made-up engine whose answers depend on every value it is given and its place."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from server.batcher import Answer, Batcher, IsShort, never_short
from server.metrics import Metrics
from server.scheduler import Scheduler
from server.tensors import Tensors
from tests.server.harness import LIMIT_SECONDS, eventually

Windows = NDArray[np.float32]
Integers = NDArray[np.int64]
WINDOW = 4


def following(
    windows_BTF: Windows,
    time_seconds_BT: Integers | None = None,
    series_B1: Integers | None = None,
    *,
    num_ahead: int = 1,
) -> Windows:
    """Predictions [B, num_ahead] that no other window of the test shares, nor the same one at another time."""
    weights = np.arange(1, windows_BTF[0].size + 1, dtype=np.float64).reshape(windows_BTF.shape[1:])
    sums_B = np.tanh((windows_BTF * weights).sum(axis=(1, 2), dtype=np.float64) / 100)
    if time_seconds_BT is not None:
        sums_B = sums_B + np.sin((time_seconds_BT * np.arange(1, len(time_seconds_BT[0]) + 1)).sum(axis=1) % 997)
    if series_B1 is not None:
        sums_B = sums_B + np.sqrt(series_B1[:, 0] + 2.0)
    return np.asarray(sums_B[:, None] + 0.7 * np.arange(num_ahead), np.float32)


def slid(
    windows_NTF: Windows,
    horizon: int,
    future_NHF: Windows | None = None,
    *,
    time_seconds_NT: Integers | None = None,
    series_N1: Integers | None = None,
    num_ahead: int = 1,
) -> Windows:
    """The right answer: the loop over the horizon written out, one value after the other."""
    window = windows_NTF.shape[1]
    predictions: list[Windows] = []
    while len(predictions) < horizon:
        times = None if time_seconds_NT is None else time_seconds_NT[:, -window:]
        given = following(windows_NTF[:, -window:], times, series_N1, num_ahead=num_ahead)
        for k in range(num_ahead):
            predictions.append(given[:, k : k + 1])
            row = np.full(windows_NTF[:, 0].shape, np.nan, np.float32)
            row[:, :1] = predictions[-1]
            if future_NHF is not None and len(predictions) <= future_NHF.shape[1]:
                row[:, 1:] = future_NHF[:, len(predictions) - 1]
            windows_NTF = np.concatenate((windows_NTF, row[:, None]), axis=1)
            if time_seconds_NT is not None:
                step = time_seconds_NT[:, -1:] - time_seconds_NT[:, -2:-1]
                time_seconds_NT = np.concatenate((time_seconds_NT, time_seconds_NT[:, -1:] + step), axis=1)
    return np.concatenate(predictions[:horizon], axis=1)


def ends_of(next_BK: Windows, num_levels: int) -> tuple[Windows, Windows]:
    """Lower and upper [B, K, L]: as far from the prediction as it is from 0, a bit more at each level."""
    distance = np.abs(next_BK)[:, :, None] * np.arange(1, num_levels + 1, dtype=np.float32)
    return next_BK[:, :, None] - distance, next_BK[:, :, None] + distance


class FakeEngine:
    """Runs are held until let go; every batch is remembered. `raises` spoils runs by number, `change` all of them."""

    def __init__(self, direct_horizon: int = 1, num_levels: int = 0) -> None:
        self.direct_horizon = direct_horizon
        self.num_levels = num_levels
        self.batches: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.raises: dict[int, Exception] = {}
        self.change: Callable[[Windows, Windows], Windows] = lambda _, predictions: predictions

    def run(self, inputs: Tensors) -> Tensors:
        windows_BTF = inputs["window"]
        assert all(array.flags.c_contiguous and len(array) == len(windows_BTF) for array in inputs.values())
        self.batches.append(len(windows_BTF))
        assert self.go.wait(LIMIT_SECONDS)
        if error := self.raises.get(len(self.batches)):
            raise error
        context = inputs.get("time_seconds"), inputs.get("series")
        predictions = following(windows_BTF, *context, num_ahead=self.direct_horizon)
        outputs = {"next": self.change(windows_BTF, predictions)}
        if self.num_levels:
            outputs["lower"], outputs["upper"] = ends_of(predictions, self.num_levels)
        return outputs

    async def running(self, num_batches: int = 1) -> None:
        await eventually(lambda: len(self.batches) >= num_batches, "a run")


class Bench:
    """A batcher on a fake engine, and its metrics."""

    def __init__(
        self,
        *,
        max_batch_windows: int = 8,
        max_queue_windows: int = 1000,
        direct_horizon: int = 1,
        num_levels: int = 0,
        is_short: IsShort = never_short,
        max_queue_seconds: float = math.inf,
    ) -> None:
        self.engine = FakeEngine(direct_horizon, num_levels)
        self.registry = CollectorRegistry()
        self.scheduler = Scheduler(max_batch_windows=max_batch_windows, max_queue_windows=max_queue_windows)
        self.observed: list[tuple[Windows, Windows]] = []
        self.graphs: list[str] = []
        self.batcher = Batcher(
            self.engine.run,
            scheduler=self.scheduler,
            metrics=Metrics(self.registry).for_model("m", 3),
            observe=self._observe,
            name="m",
            direct_horizon=direct_horizon,
            num_levels=num_levels,
            is_short=is_short,
            max_queue_seconds=max_queue_seconds,
        )

    def _observe(self, graph: str, inputs: Tensors, outputs: Tensors) -> None:
        self.graphs.append(graph)
        self.observed.append((inputs["window"], outputs["next"]))

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, {"model": "m"} | labels) or 0.0

    def call(self, windows: Windows, **options: Any) -> asyncio.Task[Answer]:
        return asyncio.create_task(self.batcher.predict(windows, **options))

    async def queued(self, num_windows: int) -> None:
        await eventually(lambda: self.scheduler.queued_windows == num_windows, f"{num_windows} windows in the queue")


@asynccontextmanager
async def bench(**options: Any) -> AsyncIterator[Bench]:
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
