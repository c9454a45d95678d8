"""An artifact's folder: what is there is what was published, and a version is there whole or not at all."""

import errno
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.artifact.errors import ArtifactError
from export.artifact.folder import Artifact, publish, versions
from export.artifact.manifest import MANIFEST, File, encode
from tests.export.artifact import samples

FILES = samples.files()
EVERY_FILE = sorted([*FILES, MANIFEST])


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def published(models: Path) -> Path:
    return publish(models, samples.MANIFEST, FILES)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One version for many examples; each puts back what it changed."""
    return publish(tmp_path_factory.mktemp("models"), samples.MANIFEST, FILES)


@contextmanager
def _altered(path: Path, data: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


def _all_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _assert_refused(folder: Path, name: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        Artifact(folder).verify()
    assert str(caught.value).startswith(f"{name}: ")
    if name != MANIFEST:
        with pytest.raises(ArtifactError) as caught:
            Artifact(folder).read(name)
        assert str(caught.value).startswith(f"{name}: ")


def _assert_whole(folder: Path) -> None:
    artifact = Artifact(folder)
    artifact.verify()
    assert _all_below(folder) == EVERY_FILE
    assert {name: artifact.read(name) for name in FILES} == FILES


class TestReading:
    def test_published_is_read_back(self, published: Path) -> None:
        _assert_whole(published)
        assert Artifact(published).manifest == msgspec.structs.replace(
            samples.MANIFEST, files=samples.digests(FILES), sha256=Artifact(published).manifest.sha256
        )

    @pytest.mark.parametrize("name", [name for name in EVERY_FILE if name not in {MANIFEST, "golden.npz"}])
    def test_every_flipped_bit_is_refused(self, lasting: Path, name: str) -> None:
        """golden.npz and manifest.json, being longer, have their turn with hypothesis and in test_manifest."""
        data = (lasting / name).read_bytes()
        for offset in range(len(data)):
            for bit in range(8):
                flipped = bytearray(data)
                flipped[offset] ^= 1 << bit
                with _altered(lasting / name, bytes(flipped)):
                    _assert_refused(lasting, name)
        _assert_whole(lasting)

    @given(st.data())
    @settings(deadline=None, max_examples=200)
    def test_any_changed_byte_is_refused(self, lasting: Path, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in EVERY_FILE if name != "empty.txt"]))
        content = bytearray((lasting / name).read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        with _altered(lasting / name, bytes(content)):
            _assert_refused(lasting, name)

    @given(st.data())
    @settings(deadline=None)
    def test_any_truncation_is_refused(self, lasting: Path, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name in EVERY_FILE if name != "empty.txt"]))
        content = (lasting / name).read_bytes()
        with _altered(lasting / name, content[: data.draw(st.integers(0, len(content) - 1))]):
            _assert_refused(lasting, name)

    @pytest.mark.parametrize("name", EVERY_FILE)
    def test_added_bytes_are_refused(self, lasting: Path, name: str) -> None:
        with _altered(lasting / name, (lasting / name).read_bytes() + b"\0"):
            _assert_refused(lasting, name)

    def test_message_says_what_is_wrong(self, published: Path) -> None:
        (published / "window.onnx").write_bytes(b"the window")
        with pytest.raises(ArtifactError, match=r"^window\.onnx: has 10 bytes; manifest\.json says 16$"):
            Artifact(published).verify()
        (published / "window.onnx").write_bytes(b"the window grapH")
        with pytest.raises(ArtifactError, match=r"^window\.onnx: sha256 is \w{12}…; manifest\.json says \w{12}…$"):
            Artifact(published).verify()

    @pytest.mark.parametrize("name", EVERY_FILE)
    def test_missing_file_is_named(self, published: Path, name: str) -> None:
        (published / name).unlink()
        _assert_refused(published, name)

    @pytest.mark.parametrize("name", EVERY_FILE)
    def test_folder_in_place_of_a_file_is_named(self, published: Path, name: str) -> None:
        (published / name).unlink()
        (published / name).mkdir()
        _assert_refused(published, name)

    def test_swapped_files_are_refused(self, published: Path) -> None:
        (published / "weights.safetensors").write_bytes(FILES["window.onnx"][:7])
        _assert_refused(published, "weights.safetensors")

    @pytest.mark.parametrize("name", ["../x", "/etc/passwd", "graphs/../../x", "absent.txt", MANIFEST, "", "a\0"])
    def test_only_listed_files_are_read(self, published: Path, name: str) -> None:
        (published.parent / "x").write_text("outside")
        with pytest.raises(ArtifactError, match=r"not listed in manifest\.json"):
            Artifact(published).read(name)

    @pytest.mark.parametrize(
        ("moved_to", "message"),
        [
            ("demo/4", r"^manifest\.json: version is '3' but the folder says '4'$"),
            ("demo/03", r"^manifest\.json: version is '3' but the folder says '03'$"),
            ("other/3", r"^manifest\.json: name is 'demo' but the folder says 'other'$"),
        ],
    )
    def test_copy_under_another_name_is_refused(self, published: Path, moved_to: str, message: str) -> None:
        copy = published.parent.parent / moved_to
        shutil.copytree(published, copy)
        with pytest.raises(ArtifactError, match=message):
            Artifact(copy)

    def test_missing_folder_names_the_manifest(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match=r"^manifest\.json: No such file or directory$"):
            Artifact(tmp_path / "demo" / "1")

    def test_versions_pass_over_what_is_none(self, published: Path) -> None:
        for name in ("12", ".4-abc", "0", "007", "latest", "-1", "1.5", "٣"):
            (published.parent / name).mkdir()
        (published.parent / "99").write_text("a file")
        assert sorted(versions(published.parent)) == [3, 12]


class TestPublishing:
    def test_others_may_read(self, published: Path) -> None:
        """A server may run as another user; a temporary folder is born private."""
        assert stat.S_IMODE(published.stat().st_mode) == 0o755

    def test_published_version_is_never_changed(self, models: Path, published: Path) -> None:
        with pytest.raises(ArtifactError, match="3: exists; a published version is never changed"):
            publish(models, samples.MANIFEST, {**FILES, "window.onnx": b"another graph"})
        _assert_whole(published)
        assert _names_in(published.parent) == ["3"]

    def test_neighbours_stay(self, models: Path, published: Path) -> None:
        publish(models, msgspec.structs.replace(samples.MANIFEST, version=4), FILES)
        _assert_whole(published)
        _assert_whole(published.parent / "4")

    @pytest.mark.parametrize("name", ["../escaped", "/var/escaped", ".hidden", MANIFEST])
    def test_file_names_that_lead_elsewhere_are_refused(self, models: Path, name: str) -> None:
        with pytest.raises(ArtifactError, match=r"manifest\.json: "):
            publish(models, samples.MANIFEST, {**FILES, name: b"x"})
        assert not models.exists()

    @pytest.mark.parametrize(
        "changes", [{"name": "../demo"}, {"version": 0}, {"version": 2**63}, {"backtest": {"rmse": float("nan")}}]
    )
    def test_what_nobody_could_read_back_is_refused(self, models: Path, changes: dict[str, object]) -> None:
        with pytest.raises(ArtifactError, match=r"manifest\.json: "):
            publish(models, msgspec.structs.replace(samples.MANIFEST, **changes), FILES)
        assert not models.exists()

    def test_models_that_is_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "models").write_text("a file")
        with pytest.raises(ArtifactError, match="cannot publish"):
            publish(tmp_path / "models", samples.MANIFEST, FILES)

    def test_everything_is_synced_before_it_has_its_name(self, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A power cut leaves a version whole: files and folders reach the disk before the rename does."""
        events: list[str] = []
        fsync, rename = os.fsync, os.rename

        def record_fsync(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            events.append(os.path.relpath(path, models / "demo"))
            fsync(descriptor)

        def record_rename(source: str, target: str) -> None:
            events.append("rename")
            rename(source, target)

        monkeypatch.setattr(os, "fsync", record_fsync)
        monkeypatch.setattr(os, "rename", record_rename)
        publish(models, samples.MANIFEST, FILES)
        at = events.index("rename")
        staging = os.path.commonpath([event for event in events[:at] if event.startswith(".3-")])
        assert sorted(os.path.relpath(event, staging) for event in events[:at]) == sorted([*EVERY_FILE, ".", "graphs"])
        assert events[at + 1 :] == [".", ".."]

    def test_full_disk_leaves_nothing(self, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whichever sync fails, the ones after the rename included."""
        failed_at = 0
        while True:
            calls = iter(range(100))

            def full(descriptor: int, calls: Iterator[int] = calls, failing: int = failed_at) -> None:
                if next(calls) == failing:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            monkeypatch.setattr(os, "fsync", full)
            try:
                published = publish(models, samples.MANIFEST, FILES)
            except ArtifactError as error:
                assert "cannot publish: No space left on device" in str(error)  # noqa: PT017 (the last round succeeds)
                assert _all_below(models) == []
                assert _names_in(models / "demo") == []
                failed_at += 1
            else:
                break
        assert failed_at == len(EVERY_FILE) + 4  # the version's two folders, the model's, the repository's
        _assert_whole(published)

    @pytest.mark.parametrize("operation", ["rename", "mkdir"])
    def test_refused_operation_leaves_nothing(
        self, models: Path, monkeypatch: pytest.MonkeyPatch, operation: str
    ) -> None:
        def refuse(*args: object, **kwargs: object) -> None:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        with monkeypatch.context() as patched:
            patched.setattr(os, operation, refuse)
            with pytest.raises(ArtifactError, match="cannot publish: Permission denied"):
                publish(models, samples.MANIFEST, FILES)
        assert not models.exists() or _names_in(models / "demo") == []

    def test_interrupted_publisher_leaves_nothing(self, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(descriptor: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            publish(models, samples.MANIFEST, FILES)
        assert _names_in(models / "demo") == []

    def test_version_that_appears_meanwhile_stays(self, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another publisher is there and done while this one, who found the version free, still writes."""
        fsync = os.fsync

        def other_first(descriptor: int) -> None:
            monkeypatch.setattr(os, "fsync", fsync)
            publish(models, samples.MANIFEST, FILES)
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", other_first)
        with pytest.raises(ArtifactError, match="cannot publish: Directory not empty"):
            publish(models, samples.MANIFEST, {**FILES, "window.onnx": b"another graph"})
        _assert_whole(models / "demo" / "3")
        assert _names_in(models / "demo") == ["3"]

    @pytest.mark.parametrize("num_publishers", [2, 5])
    def test_of_publishers_of_one_version_exactly_one_wins(
        self, models: Path, monkeypatch: pytest.MonkeyPatch, num_publishers: int
    ) -> None:
        """All of them have written everything, and each finds the version free, before the first takes the name."""
        together = threading.Barrier(num_publishers)
        rename = os.rename

        def rename_together(source: str, target: str) -> None:
            together.wait(timeout=30)
            rename(source, target)

        monkeypatch.setattr(os, "rename", rename_together)
        outcomes: dict[int, Path | ArtifactError] = {}

        def work(k: int) -> None:
            try:
                outcomes[k] = publish(models, samples.MANIFEST, {**FILES, "weights.safetensors": b"%d" % k})
            except ArtifactError as error:
                outcomes[k] = error

        threads = [threading.Thread(target=work, args=(k,)) for k in range(num_publishers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [k for k, outcome in outcomes.items() if isinstance(outcome, Path)]
        assert len(outcomes) == num_publishers
        assert len(winners) == 1
        artifact = Artifact(models / "demo" / "3")
        artifact.verify()
        assert artifact.read("weights.safetensors") == b"%d" % winners[0]
        assert _names_in(models / "demo") == ["3"]


def test_altered_manifest_with_its_own_right_digest_still_guards_the_files(published: Path) -> None:
    """Whoever reseals the manifest must have the digests of the files right as well."""
    manifest = Artifact(published).manifest
    stated = {**manifest.files, "weights.safetensors": File(sha256="0" * 64, size=len(FILES["weights.safetensors"]))}
    (published / MANIFEST).write_bytes(encode(msgspec.structs.replace(manifest, files=stated)))
    _assert_refused(published, "weights.safetensors")
