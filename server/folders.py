"""What the models folder has now, for the price of a few stats: artifacts that are known are not opened."""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from export.artifact import folder
from export.artifact import manifest as manifest_format
from export.artifact.errors import ArtifactError
from export.artifact.manifest import MANIFEST, is_model_name
from server.labels import LabelsError, read_labels

logger = logging.getLogger("nextvalue.folders")

# Size in bytes and time of the last change in nanoseconds. No inode: some network file systems make them up anew.
Stamp = tuple[int, int]


@dataclass(frozen=True)
class VersionFolder:
    """A version's folder at one look: the stamp of its manifest, if it has one, and of all its files, if looked for.

    `whole`: every file that the manifest lists is there in its size. What is in it is for the gate to say.
    """

    manifest: Stamp | None
    files: Mapping[str, Stamp] | None = None
    whole: bool = False

    def is_same(self, other: "VersionFolder") -> bool:
        """Whether nothing has changed between the two looks, as far as both went."""
        if self.manifest != other.manifest:
            return False
        return self.files is None or other.files is None or self.files == other.files


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder at one look. `readable_labels`: whether `labels` are what `labels.json` says."""

    versions: Mapping[int, VersionFolder] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    readable_labels: bool = True

    def is_same(self, other: "ModelFolder") -> bool:
        """Whether nothing has changed between the two looks, as far as both went."""
        return (
            self.labels == other.labels
            and self.versions.keys() == other.versions.keys()
            and all(seen.is_same(other.versions[number]) for number, seen in self.versions.items())
        )


class ModelsFolder:
    """The folder `models/<name>/<version>/`. A complaint about it is logged once, not at every look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._said: set[str] = set()
        self._saying: set[str] = set()

    def look(
        self, is_good: Callable[[str, int], bool] = lambda _name, _number: False, *, weigh: bool = True
    ) -> dict[str, ModelFolder | None]:
        """Every model's folder; None for one that cannot be read. Raises OSError if the whole cannot be listed.

        Of versions that are `is_good`, the manifest's stamp is enough. Of others all files are looked at, and with
        `weigh` whether they are whole. Names that are not model names are passed over with a warning.
        """
        self._saying = set()
        found: dict[str, ModelFolder | None] = {}
        for entry in sorted(self.path.iterdir()):
            if entry.name.startswith(".") or not entry.is_dir():
                continue
            if not is_model_name(entry.name):
                self._say(logging.WARNING, f"{entry}: not a model's name; passed over")
                continue
            try:
                found[entry.name] = self.look_at(entry.name, is_good, weigh=weigh)
            except OSError as error:
                self._say(logging.ERROR, f"{entry}: cannot be read: {error.strerror}")
                found[entry.name] = None
        self._said = self._saying
        return found

    def look_at(
        self, name: str, is_good: Callable[[str, int], bool] = lambda _name, _number: False, *, weigh: bool = False
    ) -> ModelFolder:
        """One model's folder, likewise. Raises OSError if it cannot be listed."""
        entry = self.path / name
        readable, labels = True, {}
        try:
            labels = read_labels(entry)
        except LabelsError as error:
            readable = False
            self._say(logging.ERROR, f"{entry}: no labels are taken: {error}")
        versions = {}
        for number in sorted(folder.versions(entry), reverse=True):
            where = entry / str(number)
            versions[number] = _manifest_only(where) if is_good(name, number) else _closely(where, weigh=weigh)
        return ModelFolder(versions, labels, readable)

    def _say(self, level: int, message: str) -> None:
        if message not in self._said:
            logger.log(level, message)
        self._saying.add(message)


def _manifest_only(where: Path) -> VersionFolder:
    try:
        return VersionFolder(_stamp((where / MANIFEST).stat()))
    except OSError:
        return VersionFolder(None)


def _closely(where: Path, *, weigh: bool) -> VersionFolder:
    files: dict[str, Stamp] = {}
    try:
        folders = _list(where, "", files)
        for name in folders:
            _list(where / name, f"{name}/", files)
    except OSError:
        # It is being moved or removed under our eyes; the next look tells.
        return VersionFolder(None)
    return VersionFolder(files.get(MANIFEST), files, whole=weigh and _is_whole(where, files))


def _list(where: Path, prefix: str, files: dict[str, Stamp]) -> list[str]:
    """Add a folder's files to `files`. Returns its folders; artifacts have one level of them."""
    folders = []
    with os.scandir(where) as entries:
        for entry in entries:
            if entry.is_dir():
                folders.append(entry.name)
                continue
            # A link may lead nowhere.
            with suppress(OSError):
                files[f"{prefix}{entry.name}"] = _stamp(entry.stat())
    return folders


def _is_whole(where: Path, files: Mapping[str, Stamp]) -> bool:
    try:
        manifest = manifest_format.decode((where / MANIFEST).read_bytes())
    except (OSError, ArtifactError):
        return False
    return all(name in files and files[name][0] == stated.size for name, stated in manifest.files.items())


def _stamp(stat: os.stat_result) -> Stamp:
    return stat.st_size, stat.st_mtime_ns
