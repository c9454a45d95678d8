"""The middle: from checked arrays to predictions, for whichever transport asks."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.batcher import Answer
from server.errors import Draining, NotFinite
from server.repository import Repository, Served
from server.validation import check_future, check_horizon, check_not_extreme, check_reply_size, check_windows


@dataclass(frozen=True, kw_only=True)
class FieldNames:
    """What a transport calls the parts of a request, for its error messages."""

    windows: str
    horizon: str
    future: str


class Predictor:
    """Answers prediction requests from the repository's models."""

    def __init__(self, repository: Repository, *, max_horizon: int, max_reply_bytes: int) -> None:
        self.repository = repository
        self.max_horizon = max_horizon
        self._max_reply_bytes = max_reply_bytes
        self._draining = False

    @property
    def ready(self) -> bool:
        """A model serves, and new work is taken."""
        return self.repository.ready and not self._draining

    def resolve(self, model: str, version: str) -> Served:
        """The version that will answer. Raises ModelNotFound, NotReady or Draining."""
        if self._draining:
            raise Draining("the server is shutting down")
        return self.repository.resolve(model, version)

    async def predict(
        self,
        served: Served,
        windows: NDArray[np.float32],
        *,
        horizon: int,
        future: NDArray[np.float32] | None,
        deadline: float = math.inf,
        fields: FieldNames,
    ) -> Answer:
        """Check the request and wait for its answer; `deadline` is on the loop's clock, seconds.

        Raises InvalidRequest, or what Batcher.predict raises.
        """
        windows_NTF = check_windows(fields.windows, windows, served.manifest)
        check_horizon(fields.horizon, horizon, self.max_horizon)
        check_reply_size(fields.horizon, len(windows_NTF), horizon, self._max_reply_bytes)
        future_NHF = check_future(fields.future, future, served.manifest, len(windows_NTF), horizon)
        try:
            return await served.batcher.predict(windows_NTF, horizon=horizon, future_NHF=future_NHF, deadline=deadline)
        except NotFinite as error:
            check_not_extreme(fields.windows, windows_NTF, error.row)
            raise

    async def drain(self) -> None:
        """Refuse new work; return when everything admitted has been answered."""
        self._draining = True
        for model in self.repository.models():
            for version in model.versions:
                if version.batcher is not None:
                    await version.batcher.drain()
