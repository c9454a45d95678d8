"""Models and versions: which are served, which are not and why."""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from export.artifact import folder
from export.artifact.errors import ArtifactError
from export.artifact.folder import Artifact
from export.artifact.manifest import Manifest, is_model_name
from server.batcher import Batcher, new_engine_thread
from server.engine import Engine
from server.errors import ModelNotFound, NotReady, StartupError, shown
from server.gate import LoadOptions, load_engine
from server.provider import Provider
from server.series import SeriesTable, load_series

logger = logging.getLogger("nextvalue.repository")


class State(Enum):
    """What has become of a version."""

    LOADING = "loading"
    SERVING = "serving"
    FAILED = "failed"
    STANDBY = "standby"


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


class Served(NamedTuple):
    """A version that answers."""

    model: str
    version: int
    manifest: Manifest
    engine: Engine
    batcher: Batcher
    series: SeriesTable


@dataclass
class Model:
    """A model and its versions, newest first."""

    name: str
    versions: list[Version] = field(default_factory=list)

    def default(self) -> Version | None:
        """The newest version that serves."""
        return next((version for version in self.versions if version.state is State.SERVING), None)


class Repository:
    """The folder `models/<name>/<version>/`, read once at start.

    Of each model the newest version that passes its gate is served; older ones stand by, unread beyond their
    manifest, and bad ones carry their reason.
    """

    def __init__(self, path: Path, provider: Provider, options: LoadOptions | None = None) -> None:
        """`options` say how versions are loaded. Raises StartupError if there is no such folder."""
        if not path.is_dir():
            raise StartupError(f"models is {str(path)!r}; there is no such folder")
        self.path = path
        self.provider = provider
        self._options = options or LoadOptions()
        # All names are known; and all that can be served is.
        self.listed = False
        self.scanned = False
        self._models: dict[str, Model] = {}
        self._cancelled = False

    def scan(self) -> None:
        """Find every model and version. Names that are not model names are passed over with a warning."""
        found: dict[str, Model] = {}
        for entry in sorted(self.path.iterdir()):
            if not entry.is_dir() or entry.name.startswith("."):
                continue
            if not is_model_name(entry.name):
                logger.warning("%s: not a model's name; passed over", entry)
                continue
            try:
                numbers = sorted(folder.versions(entry), reverse=True)
            except OSError as error:
                logger.error("%s: cannot be read: %s", entry, error.strerror)  # noqa: TRY400 (the reason says all)
                continue
            found[entry.name] = Model(entry.name, [Version(entry.name, number) for number in numbers])
        self._models = found
        self.listed = True

    def load(self, activate: Callable[[Version], None]) -> None:
        """Load every model's newest good version, calling `activate` for it once its gate has passed.

        Takes long: run it off the event loop. One broken artifact never stops the others.
        """
        for model in list(self._models.values()):
            chosen: Version | None = None
            for version in model.versions:
                if self._cancelled:
                    return
                if self._load_version(version, served=chosen, activate=activate):
                    chosen = version
            if chosen is None:
                logger.error("model %s: no version can be served", model.name)
        self.scanned = True

    def cancel(self) -> None:
        """Let a load in progress end after the version it is at."""
        self._cancelled = True

    def _load_version(self, version: Version, *, served: Version | None, activate: Callable[[Version], None]) -> bool:
        """Whether it now serves."""
        where = self.path / version.model / str(version.number)
        try:
            artifact = Artifact(where)
            version.manifest = artifact.manifest
            if served is not None:
                version.reason = f"version {served.number} is newer and serves"
                version.state = State.STANDBY
                return False
            version.thread = new_engine_thread(version.model)
            version.engine, worst = version.thread.submit(load_engine, artifact, self.provider, self._options).result()
            version.series = load_series(artifact)
            activate(version)
        except ArtifactError as error:
            self._quarantine(version, str(error))
        except Exception as error:
            logger.exception("%s: could not be loaded", where)
            self._quarantine(version, f"{type(error).__name__}: {error}")
        else:
            logger.info(
                "%s: passed its gate on %s, worst error %.3g (%.2g of the limit)",
                where, self.provider.name, worst.abs_error, worst.share_of_limit,
            )  # fmt: skip
            return True
        return False

    def _quarantine(self, version: Version, reason: str) -> None:
        logger.error("%s/%s/%d: not served: %s", self.path, version.model, version.number, reason)
        if version.thread is not None:
            version.thread.shutdown(wait=False)
        version.engine = version.batcher = version.thread = None
        version.reason = reason
        version.state = State.FAILED

    @property
    def ready(self) -> bool:
        """The first scan is done and a model serves."""
        return self.scanned and any(model.default() for model in self._models.values())

    def models(self) -> Iterable[Model]:
        """Every model found, by name."""
        return self._models.values()

    def knows(self, name: str) -> bool:
        """Whether the repository has a model of that name."""
        return name in self._models

    def model(self, name: str) -> Model:
        """One model. Raises ModelNotFound naming those there are, or NotReady before the first scan."""
        try:
            return self._models[name]
        except KeyError:
            if not self.listed:
                raise NotReady("the repository is still being read") from None
            known = ", ".join(list(self._models)[:10]) or "none"
            raise ModelNotFound(f"model is {shown(name)}; the repository has: {known}") from None

    def resolve(self, name: str, version: str) -> Served:
        """The version that answers for a name and a version, "" meaning the newest good one.

        Raises ModelNotFound saying what is wrong with the version asked for, or NotReady while loading.
        """
        model = self.model(name)
        if version:
            chosen = next((one for one in model.versions if str(one.number) == version), None)
            if chosen is None:
                known = ", ".join(str(one.number) for one in model.versions[:10]) or "none"
                raise ModelNotFound(f"version is {shown(version)}; model {name!r} has versions: {known}")
        else:
            # One that is still loading may yet serve in place of a newer one that failed.
            loading = (one for one in model.versions if one.state is State.LOADING)
            chosen = model.default() or next(loading, None) or next(iter(model.versions), None)
            if chosen is None:
                raise ModelNotFound(f"model {name!r} has no versions")
        if chosen.state is State.LOADING:
            raise NotReady(f"version {chosen.number} of model {name!r} is still being loaded")
        if chosen.batcher is None or chosen.engine is None or chosen.manifest is None:
            raise ModelNotFound(f"version {chosen.number} of model {name!r} is not served: {chosen.reason}")
        return Served(name, chosen.number, chosen.manifest, chosen.engine, chosen.batcher, chosen.series)
