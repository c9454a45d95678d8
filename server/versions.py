"""Models, their versions, and what has become of each."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from export.artifact.manifest import Manifest
from server.batcher import Batcher
from server.engine import Engine
from server.folders import ModelFolder
from server.labels import DEFAULT
from server.series import SeriesTable
from server.statistics import Statistics

# Why a version that could serve does not.
UNLOADED = "unloaded by an operator"


class State(Enum):
    """What has become of a version."""

    LOADING = "loading"
    SERVING = "serving"
    FAILED = "failed"
    STANDBY = "standby"
    UNLOADING = "unloading"


@dataclass
class Version:
    """One version in the repository. `reason`: why it is not served; `engine` and `batcher` are there when it is."""

    model: str
    number: int
    state: State = State.LOADING
    reason: str = ""
    manifest: Manifest | None = None
    engine: Engine | None = None
    batcher: Batcher | None = None
    series: SeriesTable = field(default_factory=SeriesTable)
    # Loads and runs its graphs: on CUDA what one thread captured is nothing to another.
    thread: ThreadPoolExecutor | None = None
    statistics: Statistics = field(default_factory=Statistics)

    def served(self) -> "Served | None":
        """What answers for it, if it serves."""
        engine, batcher, manifest = self.engine, self.batcher, self.manifest
        if self.state is not State.SERVING or engine is None or batcher is None or manifest is None:
            return None
        return Served(self.model, self.number, manifest, engine, batcher, self.series, self.statistics)


class Served(NamedTuple):
    """A version that answers."""

    model: str
    version: int
    manifest: Manifest
    engine: Engine
    batcher: Batcher
    series: SeriesTable
    statistics: Statistics


@dataclass
class Model:
    """A model and its versions, newest first; `labels` name some of them.

    `folder` is what they were made from. A version that is gone from it may serve on, from memory. `unloaded`: an
    operator let it go, and it stays so until one loads it.
    """

    name: str
    versions: list[Version] = field(default_factory=list)
    labels: Mapping[str, int] = field(default_factory=dict)
    folder: ModelFolder = field(default_factory=ModelFolder)
    unloaded: bool = False

    def serving(self) -> list[Version]:
        """The versions that answer, newest first."""
        return [version for version in self.versions if version.state is State.SERVING]

    def labels_of(self, version: Version) -> list[str]:
        """The names of a version, in alphabetical order."""
        return sorted(label for label, number in self.labels.items() if number == version.number)

    def default(self) -> Version | None:
        """What answers where no version is named: the one so labelled if it serves, else the newest that does."""
        labelled, newest = self.labels.get(DEFAULT), None
        for version in self.versions:
            if version.state is State.SERVING:
                if labelled is None or version.number == labelled:
                    return version
                newest = newest or version
        return newest
