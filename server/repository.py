"""Models and versions: which are served, which are not and why."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from export.artifact.errors import ArtifactError
from export.artifact.folder import Artifact
from export.artifact.manifest import is_model_name
from server.batcher import new_engine_thread
from server.errors import ModelNotFound, NotReady, StartupError, shown
from server.folders import ModelFolder, ModelsFolder
from server.gate import LoadOptions, load_engine
from server.labels import DEFAULT
from server.provider import Provider
from server.series import load_series
from server.versions import UNLOADED, Model, Served, State, Version

logger = logging.getLogger("nextvalue.repository")


class Reread(NamedTuple):
    """A model as its folder has it, and the versions in it that should serve and failed."""

    model: Model
    failed: list[Version]


class Repository:
    """The folder `models/<name>/<version>/`, read at start, and again by model where an operator asks for it.

    Of each model the newest version that passes its gate is served, and those that `labels.json` names; others stand
    by, unread beyond their manifest, and bad ones carry their reason.
    """

    def __init__(self, path: Path, provider: Provider, options: LoadOptions | None = None) -> None:
        """`options` say how versions are loaded. Raises StartupError if there is no such folder."""
        if not path.is_dir():
            raise StartupError(f"models is {str(path)!r}; there is no such folder")
        self.path = path
        self._folder = ModelsFolder(path)
        self.provider = provider
        self._options = options or LoadOptions()
        # All names are known; and all that can be served is.
        self.listed = False
        self.scanned = False
        self._models: dict[str, Model] = {}
        self._cancelled = False

    def scan(self) -> None:
        """Find every model and version. Names that are not model names are passed over with a warning."""
        seen = self._folder.look(weigh=False)
        self._models = {name: _found(name, folder) for name, folder in seen.items() if folder is not None}
        self.listed = True

    def look(self) -> dict[str, ModelFolder | None]:
        """Every model's folder as it is now; None for one that cannot be read. Raises OSError. May be slow."""
        return self._folder.look(self._is_good)

    def _is_good(self, name: str, number: int) -> bool:
        """Whether a version has passed its gate, or stands by: nobody waits for its folder to change."""
        model = self._models.get(name)
        states = (State.SERVING, State.STANDBY)
        return model is not None and any(one.number == number and one.state in states for one in model.versions)

    def load(self, activate: Callable[[Version], None]) -> None:
        """Load what every model serves, calling `activate` for each version once its gate has passed.

        Takes long: run it off the event loop. One broken artifact never stops the others.
        """
        for model in list(self._models.values()):
            self._load_model(model, activate)
            if self._cancelled:
                return
        self.scanned = True

    def reread(self, name: str, activate: Callable[[Version], None]) -> Reread:
        """What a model's folder has now, loaded beside what it serves; `replace` puts it in its place.

        A version that serves already and has not changed is kept as it is; one that failed is tried again. Takes long:
        run it off the event loop. Raises ModelNotFound without such a folder.
        """
        try:
            if not is_model_name(name) or not (self.path / name).is_dir():
                raise ModelNotFound(f"model is {shown(name)}; {str(self.path)!r} has no such folder")
            folder = self._folder.look_at(name)
        except OSError as error:
            raise ModelNotFound(f"model is {shown(name)}; its folder cannot be read: {error.strerror}") from None
        if not folder.readable_labels and name in self._models:
            # A file that is being written must not move what callers get.
            folder = dataclasses.replace(folder, labels=self._models[name].labels)
        return self._renew(_found(name, folder), activate, self._is_unchanged)

    def refresh(self, name: str, folder: ModelFolder, activate: Callable[[Version], None]) -> Reread:
        """As `reread`, for a folder that was looked at. What is the same as before is not read, nor tried, again."""
        before = self._models.get(name, Model(name))
        seen = before.folder.versions
        same = {number for number, now in folder.versions.items() if number in seen and now.is_same(seen[number])}
        model = _found(name, folder)
        old_of = {version.number: version for version in before.versions if version.number in same}
        for version in model.versions:
            old = old_of.get(version.number)
            if old is not None:
                version.manifest = old.manifest
                if old.state is State.FAILED:
                    version.state, version.reason = State.FAILED, old.reason
        return self._renew(model, activate, lambda old: old.number in same or self._is_unchanged(old))

    def _renew(
        self, model: Model, activate: Callable[[Version], None], is_unchanged: Callable[[Version], bool]
    ) -> Reread:
        """Load what `model` serves. What serves now and is as good as ever takes the place of what was found.

        Where nothing of the folder can serve, all that serves is kept.
        """
        before = {old.number: old for old in self._models.get(model.name, Model(model.name)).serving()}
        kept = {number: old for number, old in before.items() if number in model.folder.versions and is_unchanged(old)}
        failed = self._load_model(model, activate, kept, fall_back=before)
        if model.default() is None:
            numbers = [version.number for version in model.versions]
            model.versions += [old for old in before.values() if old.number not in numbers]
            model.versions.sort(key=lambda version: version.number, reverse=True)
        return Reread(model, failed)

    def _is_unchanged(self, old: Version) -> bool:
        """Whether the version that serves is what the folder has under its number."""
        try:
            return Artifact(self.path / old.model / str(old.number)).manifest == old.manifest
        except ArtifactError:
            return False

    def replace(self, model: Model) -> list[Version]:
        """Serve what `reread` gave. Returns the versions that served and are no part of it: nobody can ask for them."""
        before = self._models.get(model.name, Model(model.name)).serving()
        self._models = dict(sorted((self._models | {model.name: model}).items()))
        return [old for old in before if not any(old is version for version in model.versions)]

    def known(self) -> dict[str, ModelFolder]:
        """What counts of every model's folder, but of those that an operator let go: they are left alone."""
        return {name: model.folder for name, model in self._models.items() if not model.unloaded}

    def is_as_known(self, name: str, folder: ModelFolder | None) -> bool:
        """Whether a model is still made from `folder`; None for one that there is not."""
        model = self._models.get(name)
        if model is None or folder is None:
            return model is None and folder is None
        return model.folder is folder and not model.unloaded

    def drop(self, name: str) -> list[Version]:
        """Forget a model. Returns the versions that served: nobody can ask for them."""
        model = self._models.get(name, Model(name))
        self._models = {other: kept for other, kept in self._models.items() if other != name}
        return model.serving()

    def release(self, name: str) -> list[Version]:
        """Refuse the model to everyone from now on. Returns what served. Raises ModelNotFound or NotReady."""
        model = self.model(name)
        released = model.serving()
        model.unloaded = True
        for version in model.versions:
            if version.state is not State.FAILED:
                version.state = State.UNLOADING if version in released else State.STANDBY
                version.reason = UNLOADED
        return released

    def released(self, versions: Iterable[Version]) -> None:
        """Versions of a model that was released have answered everything."""
        for version in versions:
            version.state = State.STANDBY

    def _load_model(
        self,
        model: Model,
        activate: Callable[[Version], None],
        kept: Mapping[int, Version] = MappingProxyType({}),
        fall_back: Mapping[int, Version] = MappingProxyType({}),
    ) -> list[Version]:
        """Load the versions that should serve. Returns those that fail, and newer ones that could not stand by.

        `kept` are versions, by number, that serve already: where they should, they take the place of those found. Those
        of `fall_back` do so where what was found fails: what is in memory is sound, whatever became of its files.
        """
        labelled = set(model.labels.values())
        chosen: Version | None = None
        failed: list[Version] = []
        # The default first: where it serves, the newest need not.
        for found in sorted(model.versions, key=lambda one: one.number != model.labels.get(DEFAULT)):
            if self._cancelled:
                break
            version = found
            should_serve = chosen is None or found.number in labelled
            if not should_serve:
                self._load_version(found, served=chosen, activate=activate)
            elif found.number in kept:
                version = kept[found.number]
            else:
                self._load_version(found, served=None, activate=activate)
            if found.state is State.FAILED and (should_serve or (chosen and found.number > chosen.number)):
                failed.append(found)
                version = fall_back.get(found.number, found) if should_serve else found
            model.versions[model.versions.index(found)] = version
            if version.state is State.SERVING:
                chosen = chosen or version
        if chosen is None:
            logger.error("model %s: no version can be served", model.name)
        return failed

    def cancel(self) -> None:
        """Let a load in progress end after the version it is at."""
        self._cancelled = True

    def _load_version(self, version: Version, *, served: Version | None, activate: Callable[[Version], None]) -> None:
        """Make it serve, or stand by where `served` does in its place. One that failed before is left as it is."""
        if version.state is State.FAILED:
            return
        where = self.path / version.model / str(version.number)
        try:
            if served is not None:
                if version.manifest is None:
                    version.manifest = Artifact(where).manifest
                why = "newer" if served.number > version.number else "the default"
                version.reason = f"version {served.number} is {why} and serves"
                version.state = State.STANDBY
                return
            artifact = Artifact(where)
            version.manifest = artifact.manifest
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

    def answers(self, name: str) -> bool:
        """Whether any version of the model answers."""
        model = self._models.get(name)
        return model is not None and model.default() is not None

    def lists(self, name: str, number: int) -> bool:
        """Whether the model has that version, serving or not."""
        model = self._models.get(name)
        return model is not None and any(version.number == number for version in model.versions)

    def serves(self, name: str, number: int) -> bool:
        """Whether that version answers."""
        model = self._models.get(name)
        return model is not None and any(version.number == number for version in model.serving())

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
            number = str(model.labels.get(version, version))
            chosen = next((one for one in model.versions if str(one.number) == number), None)
            if chosen is None:
                known = ", ".join(str(one.number) for one in model.versions[:10]) or "none"
                labels = f"; labels: {', '.join(list(model.labels)[:10])}" if model.labels else ""
                raise ModelNotFound(f"version is {shown(version)}; model {name!r} has versions: {known}{labels}")
        else:
            chosen = model.default() or _foremost(model)
        if chosen.state is State.LOADING:
            raise NotReady(f"version {chosen.number} of model {name!r} is still being loaded")
        served = chosen.served()
        if served is None:
            raise ModelNotFound(f"version {chosen.number} of model {name!r} is not served: {chosen.reason}")
        return served


def _foremost(model: Model) -> Version:
    """The version of a model that none serves whose state tells most. Raises ModelNotFound if it has none."""
    if not model.versions:
        raise ModelNotFound(f"model {model.name!r} has no versions")
    # One that is still loading may yet serve in place of a newer one that failed.
    return next((one for one in model.versions if one.state is State.LOADING), model.versions[0])


def _found(name: str, folder: ModelFolder) -> Model:
    """A model of which nothing is loaded."""
    versions = [Version(name, number) for number in sorted(folder.versions, reverse=True)]
    return Model(name, versions, folder.labels, folder)
