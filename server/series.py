"""The series that a model knows by id: its rows in the graph's table of scales."""

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from export.artifact.errors import ArtifactError
from export.artifact.folder import SERIES, Artifact

# Any number outside the table: the graph takes the default row for it.
UNKNOWN = -1


class SeriesTable:
    """Numbers of series by their ids. Empty for a model that takes no series."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        """`ids` in the order of the table's rows."""
        self._number_of_id = {name: number for number, name in enumerate(ids)}

    def __len__(self) -> int:
        return len(self._number_of_id)

    def numbers(self, series: Iterable[str] | NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers [N, 1] of ids, UNKNOWN for those that are not in the table; numbers are left as they are."""
        if isinstance(series, np.ndarray):
            return series
        found = [self._number_of_id.get(name, UNKNOWN) for name in series]
        return np.array(found, np.int64)[:, None]

    def num_unknown(self, series_N1: NDArray[np.int64]) -> int:
        """How many of the numbers are not in the table."""
        return int(((series_N1 < 0) | (series_N1 >= len(self))).sum())


def load_series(artifact: Artifact) -> SeriesTable:
    """The table of an artifact. Raises ArtifactError naming the file if it is not what the manifest says."""
    scaling = artifact.manifest.scaling
    if scaling.kind != "series":
        return SeriesTable()
    try:
        ids = msgspec.json.decode(artifact.read(SERIES), type=list[str])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{SERIES}: {error}") from None
    table = SeriesTable(ids)
    if len(ids) != len(table):
        raise ArtifactError(f"{SERIES}: an id is there twice")
    if len(ids) != scaling.num_series:
        raise ArtifactError(f"{SERIES}: has {len(ids)} ids; the manifest says {scaling.num_series}")
    return table
