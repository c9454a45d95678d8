"""What a look at the models folder sees."""

import os
import shutil
from pathlib import Path

import pytest

from server import folders
from server.folders import ModelsFolder
from tests.server.test_repository import flip, publish_version


@pytest.fixture
def own_models(models: Path, tmp_path: Path) -> Path:
    shutil.copytree(models / "demo", tmp_path / "models" / "demo")
    return tmp_path / "models"


def test_names(own_models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What the publisher's rename has not yet made a version is none, and odd names are complained of once."""
    (own_models / "demo" / ".2-abc").mkdir()
    (own_models / "not a name").mkdir()
    (own_models / "README.md").write_text("")
    folder = ModelsFolder(own_models)
    for _ in range(3):
        (name, seen), = folder.look().items()  # fmt: skip
        assert (name, list(seen.versions) if seen else None) == ("demo", [1])
    assert caplog.text.count("not a model's name") == 1


def test_whole_and_not(own_models: Path) -> None:
    path = publish_version(own_models, 2)

    def is_whole() -> bool:
        return ModelsFolder(own_models).look_at("demo", weigh=True).versions[2].whole

    assert is_whole()
    data = (path / "window.onnx").read_bytes()
    (path / "window.onnx").write_bytes(data[:-1])
    assert not is_whole()
    flip(path / "step.onnx")
    (path / "window.onnx").write_bytes(data)
    assert is_whole(), "what is in it is for the gate to say"
    (path / "golden.npz").unlink()
    assert not is_whole()


def test_a_manifest_that_is_half_there_is_not_whole(own_models: Path) -> None:
    path = publish_version(own_models, 2) / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])
    seen = ModelsFolder(own_models).look_at("demo", weigh=True).versions[2]
    assert seen.manifest is not None
    assert not seen.whole


def test_a_file_that_changes_is_seen_where_it_is_looked_for(own_models: Path) -> None:
    folder = ModelsFolder(own_models)
    closely = folder.look_at("demo").versions[1]
    barely = folder.look_at("demo", lambda *_: True).versions[1]
    assert barely.files is None
    assert closely.is_same(barely)
    window = own_models / "demo" / "1" / "window.onnx"
    os.utime(window, ns=(0, 0))
    assert not folder.look_at("demo").versions[1].is_same(closely)
    assert folder.look_at("demo", lambda *_: True).versions[1].is_same(closely), "nobody reads it again"
    os.utime(window.with_name("manifest.json"), ns=(0, 0))
    assert not folder.look_at("demo", lambda *_: True).versions[1].is_same(closely)


def test_a_link_that_leads_nowhere_hides_nothing(own_models: Path) -> None:
    (own_models / "demo" / "1" / "notes").symlink_to("/no/such/file")
    (own_models / "demo" / "1" / "loop").symlink_to(".")
    assert ModelsFolder(own_models).look_at("demo", weigh=True).versions[1].whole


def test_versions_that_are_good_are_not_opened(own_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(folders, "_list", never)
    monkeypatch.setattr(folders, "_is_whole", never)
    assert list(ModelsFolder(own_models).look(lambda *_: True)) == ["demo"]


def test_a_model_that_cannot_be_listed_is_none(own_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ModelsFolder(own_models)

    def stale(*_: object, **__: object) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(folder, "look_at", stale)
    assert folder.look() == {"demo": None}


def test_no_folder_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        ModelsFolder(tmp_path / "none").look()
