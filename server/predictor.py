"""The middle: from checked arrays to predictions, for whichever transport asks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from export.artifact.manifest import SLIDING
from server.batcher import Answer
from server.entry import Ends
from server.errors import Draining, NotFinite
from server.repository import Repository
from server.validation import (
    check_future,
    check_horizon,
    check_levels,
    check_not_extreme,
    check_reply_size,
    check_rollout,
    check_series,
    check_time_seconds,
    check_times_go_on,
    check_windows,
)
from server.versions import Served


@dataclass(frozen=True, kw_only=True)
class FieldNames:
    """What a transport calls the parts of a request, for its error messages."""

    windows: str
    horizon: str
    future: str
    time_seconds: str
    series: str
    intervals: str
    rollout: str


class Question(NamedTuple):
    """What a caller asks of a model, as it was sent.

    `windows` [N, T, F], `future` [N, horizon - 1, F - 1], `time_seconds` [N, T]. `series` is that of each window, by
    id, or by number, [N, 1]. `levels` are those of the intervals wanted, empty for all that the model has; None where
    no intervals are wanted. `rollout` is what follows a value that is fed back, one of ROLLOUTS.
    """

    windows: NDArray[np.float32]
    horizon: int
    future: NDArray[np.float32] | None = None
    time_seconds: NDArray[np.int64] | None = None
    series: Sequence[str] | NDArray[np.int64] | None = None
    levels: Sequence[float] | None = None
    rollout: str = SLIDING


class Predictor:
    """Answers prediction requests from the repository's models."""

    def __init__(
        self, repository: Repository, unknown_series: Counter, *, max_horizon: int, max_reply_bytes: int
    ) -> None:
        self.repository = repository
        self.max_horizon = max_horizon
        self._unknown_series = unknown_series
        self._max_reply_bytes = max_reply_bytes
        self._draining = False
        # One of several workers says that it is ready when all are; it answers before.
        self.unannounced = False

    @property
    def ready(self) -> bool:
        """A model serves, and new work is taken."""
        return self.repository.ready and not self._draining and not self.unannounced

    def resolve(self, model: str, version: str) -> Served:
        """The version that will answer. Raises ModelNotFound, NotReady or Draining."""
        if self._draining:
            raise Draining("the server is shutting down")
        return self.repository.resolve(model, version)

    async def predict(
        self, served: Served, question: Question, *, deadline: float = math.inf, fields: FieldNames
    ) -> Answer:
        """Check the request and wait for its answer; `deadline` is on the loop's clock, seconds.

        Raises InvalidRequest, or what Batcher.predict raises.
        """
        manifest, horizon = served.manifest, question.horizon
        windows_NTF = check_windows(fields.windows, question.windows, manifest)
        num_windows = len(windows_NTF)
        check_horizon(fields.horizon, horizon, self.max_horizon)
        check_times_go_on(fields.horizon, horizon, manifest)
        if horizon > manifest.direct_horizon:
            check_rollout(fields.rollout, question.rollout, served.batcher.carry_horizon, fields.horizon, horizon)
        places = check_levels(fields.intervals, question.levels, manifest, fields.horizon, horizon)
        check_reply_size(fields.horizon, num_windows, horizon, self._max_reply_bytes, num_levels=len(places))
        future_NHF = check_future(fields.future, question.future, manifest, num_windows, horizon)
        time_seconds_NT = check_time_seconds(fields.time_seconds, question.time_seconds, manifest, num_windows)
        series = check_series(fields.series, question.series, manifest, num_windows)
        series_N1 = None if series is None else served.series.numbers(series)
        try:
            answer = await served.batcher.predict(
                windows_NTF,
                horizon=horizon,
                future_NHF=future_NHF,
                time_seconds_NT=time_seconds_NT,
                series_N1=series_N1,
                intervals=bool(places),
                rollout=question.rollout,
                deadline=deadline,
            )
        except NotFinite as error:
            check_not_extreme(fields.windows, windows_NTF, error.row)
            raise
        served.statistics.answered(num_windows, queue_seconds=answer.queue_seconds, run_seconds=answer.run_seconds)
        if answer.ends is not None and manifest.intervals is not None:
            levels = [manifest.intervals.levels[place] for place in places]
            answer = answer._replace(ends=Ends(*(array[:, :, places] for array in answer.ends)), levels=levels)
        if series_N1 is not None:
            num_unknown = served.series.num_unknown(series_N1)
            self._unknown_series.labels(served.model, str(served.version)).inc(num_unknown)
            answer = answer._replace(num_unknown_series=num_unknown)
        return answer

    async def drain(self) -> None:
        """Refuse new work; return when everything admitted has been answered."""
        self._draining = True
        for model in self.repository.models():
            for version in model.versions:
                if version.batcher is not None:
                    await version.batcher.drain()
