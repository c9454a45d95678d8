"""python -m export.artifact: verified, damaged, or nothing there."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from export.artifact import folder
from export.artifact.__main__ import main
from tests.export.artifact.samples import MANIFEST, files


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for version in (1, 2, 10):
        manifest = msgspec.structs.replace(MANIFEST, version=version)
        folder.publish(tmp_path / "models", manifest, files())
    return tmp_path / "models"


def test_all_is_well(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models / ".lost+found").mkdir()
    assert main(["--models", str(models)]) == 0
    assert capsys.readouterr() == ("demo/1 verified\ndemo/2 verified\ndemo/10 verified\n", "")


def test_what_is_damaged_is_named(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are verified all the same."""
    (models / "demo" / "2" / "window.onnx").write_bytes(b"the window grapf")
    (models / "demo" / "10" / "manifest.json").unlink()
    assert main(["--models", str(models)]) == 1
    found = capsys.readouterr()
    assert found.out == "demo/1 verified\n"
    damaged, missing = found.err.splitlines()
    assert damaged.startswith("export.artifact: demo/2: window.onnx: sha256 is ")
    assert missing == "export.artifact: demo/10: manifest.json: No such file or directory"


def test_nothing_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--models", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"export.artifact: {tmp_path}: no version of any model\n"
    assert main(["--models", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == f"export.artifact: {tmp_path / 'none'}: No such file or directory\n"


def test_it_needs_neither_torch_nor_onnxruntime(models: Path) -> None:
    """The server's image has no torch, and an init step should not wait for onnxruntime."""
    program = (
        "import sys; from export.artifact.__main__ import main; status = main(sys.argv[1:]); "
        "assert not {'torch', 'onnx', 'onnxruntime'} & sys.modules.keys(); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program, "--models", str(models)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
