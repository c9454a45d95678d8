"""A batcher that writes down when each watched call waited and ran."""

import asyncio
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.batcher import Answer, Batcher, Waiting
from server.watch.current import Current
from server.watch.record import Record


class _Watched(Waiting):
    """A caller, and its record."""

    def __init__(self, current: Current, reply: asyncio.Future[Answer]) -> None:
        super().__init__(reply)
        self.record: Record | None = current.record
        if self.record is not None:
            self.record.queued(perf_counter())


class WatchedBatcher(Batcher):
    """The same answers."""

    def __init__(self, *arguments: Any, current: Current, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._current = current
        self.waiting_type = partial(_Watched, current)
        # Of the last run; the next begins when this one has been handed out.
        self._ran = (0.0, 0.0)

    async def predict(self, windows_NTF: NDArray[np.float32], **options: Any) -> Answer:
        """As Batcher's."""
        if self._current.record is not None:
            self._current.record.windows = len(windows_NTF)
        return await super().predict(windows_NTF, **options)

    def _outcome(self, batch: Any) -> Any:
        started = perf_counter()
        outcome = super()._outcome(batch)
        self._ran = started, perf_counter()
        return outcome

    def _finish(self, batch: Any, outcome: Any) -> None:
        for piece in batch.slices:
            waiting = self._waiting.get(piece.entry)
            if isinstance(waiting, _Watched) and waiting.record is not None:
                waiting.record.ran(*self._ran, batch.num_windows)
        super()._finish(batch, outcome)
