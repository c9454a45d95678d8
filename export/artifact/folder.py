"""An artifact on disk: every read verified, every publication atomic."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from export.artifact import manifest as manifest_format
from export.artifact.errors import ArtifactError
from export.artifact.manifest import MANIFEST, File, Manifest

GOLDEN = "golden.npz"
SERIES = "series.json"
WEIGHTS = "weights.safetensors"
REPORT = "report.json"
REPORT_PICTURE = "report.png"


class Artifact:
    """One version in a model repository, `models/<name>/<version>/`.

    Opening reads and checks the manifest alone; `read` and `verify` check the digest of what they touch.
    """

    def __init__(self, folder: Path) -> None:
        """Raises ArtifactError if the manifest is missing, broken, or of another name or version than its folder."""
        self.folder = folder
        self.manifest = manifest_format.decode(_read(folder, MANIFEST))
        for field, stated, found in (
            ("name", self.manifest.name, folder.parent.name),
            ("version", str(self.manifest.version), folder.name),
        ):
            if stated != found:
                raise ArtifactError(f"{MANIFEST}: {field} is {stated!r} but the folder says {found!r}")

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises ArtifactError naming it if it is missing or not what was published."""
        stated = self.manifest.files.get(name)
        if stated is None:
            raise ArtifactError(f"{name}: not listed in {MANIFEST}")
        data = _read(self.folder, name)
        _check(name, stated, len(data), hashlib.sha256(data).hexdigest())
        return data

    def verify(self) -> None:
        """Check size and digest of every file. Raises ArtifactError naming the first that is wrong."""
        for name, stated in sorted(self.manifest.files.items()):
            try:
                with (self.folder / name).open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    actual = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise ArtifactError(f"{name}: {error.strerror}") from None
            _check(name, stated, size, actual)


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{name}: {error.strerror}") from None


def _check(name: str, stated: File, size: int, sha256: str) -> None:
    if size != stated.size:
        raise ArtifactError(f"{name}: has {size} bytes; {MANIFEST} says {stated.size}")
    if sha256 != stated.sha256:
        raise ArtifactError(f"{name}: sha256 is {sha256[:12]}…; {MANIFEST} says {stated.sha256[:12]}…")


def versions(model_folder: Path) -> Iterator[int]:
    """The versions present, in no order. Folders that are no positive integer (temporary ones, say) are passed over."""
    for entry in model_folder.iterdir():
        name = entry.name
        if entry.is_dir() and name.isascii() and name.isdigit() and not name.startswith("0") and len(name) < 19:
            yield int(name)


def publish(models: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """Write a version under `models` so that it is there whole or not at all; returns its folder.

    `manifest.files` and `manifest.sha256` are filled in here. Raises ArtifactError if the version exists
    (a published version never changes), nobody could read it back, or the disk refuses.
    """
    target = models / manifest.name / str(manifest.version)
    if target.exists():
        raise ArtifactError(f"{target}: exists; a published version is never changed, choose another version")
    stated = {
        name: File(sha256=hashlib.sha256(data).hexdigest(), size=len(data)) for name, data in sorted(files.items())
    }
    try:
        sealed = manifest_format.encode(manifest_format.with_files(manifest, stated))
    except ValueError as error:
        raise ArtifactError(f"{MANIFEST}: {error}") from None
    manifest_format.decode(sealed)
    staging: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        staging.chmod(0o755)  # mkdtemp makes it private; a server may run as another user
        for name, data in {**files, MANIFEST: sealed}.items():
            path = staging / name
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for folder in {(staging / name).parent for name in files} | {staging}:
            _sync_folder(folder)
        staging.rename(target)
        try:
            _sync_folder(target.parent)
            _sync_folder(models)
        except OSError:
            target.rename(staging)
            raise
    except OSError as error:
        raise ArtifactError(f"{target}: cannot publish: {error.strerror}") from error
    finally:
        if staging is not None and staging.exists():
            shutil.rmtree(staging, ignore_errors=True)
    return target


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
