"""python -m export: one line either way."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export import build
from export.__main__ import main
from export.artifact.folder import Artifact


def _export(run_folder: Path, models: Path, *more: str, name: str = "demo") -> int:
    return main(["--run", str(run_folder), "--models", str(models), "--name", name, *more])


def _assert_one_line(capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    """One line, on stderr, saying each of `parts`."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("export: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for part in parts:
        assert part in err


def test_command_publishes_and_says_so(run_folder: Path, models: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "export", "--run", str(run_folder), "--models", str(models)]
    ran = subprocess.run([*command, "--name", "demo"], capture_output=True, text=True, check=False, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.fullmatch(
        rf"{re.escape(str(models))}/demo/1: window \d+ nodes, columns \d+ nodes, fused \d+ nodes, primed \d+ nodes, "
        r"step \d+ nodes, "
        r"sliding \d+ nodes, carry \d+ nodes; "
        r"worst parity error [0-9.e-]+, [0-9.e-]+ % of the limit\n"
        r"plan: (\w+ up to \d+ windows, )*\w+ beyond\n",
        ran.stdout,
    )
    Artifact(models / "demo" / "1").verify()


def test_version_is_what_was_asked_for(run_folder: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _export(run_folder, models, "--version", "12") == 0
    assert capsys.readouterr().out.startswith(f"{models}/demo/12: ")
    assert _export(run_folder, models) == 0
    assert capsys.readouterr().out.startswith(f"{models}/demo/13: ")


def test_what_does_not_roll_says_why(
    run_folder: Path, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "why_not_carry", lambda *_: "no state")
    assert _export(run_folder, models, "--rollout", "7") == 0
    assert capsys.readouterr().out.endswith("\nno carry of 7 values in one graph: no state\n")


def test_float16_adds_a_graph_that_no_plan_of_a_cpu_has(
    run_folder: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _export(run_folder, models, "--precision", "float16") == 0
    assert re.search(r"primed \d+ nodes, half \d+ nodes, step \d+ nodes", capsys.readouterr().out)
    manifest = Artifact(models / "demo" / "1").manifest
    assert {name for name, graph in manifest.graphs.items() if graph.precision == "float16"} == {"half"}
    assert "half" not in {entry.graph for entry in manifest.plan}


def test_another_precision_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--run", "r", "--models", "m", "--name", "n", "--precision", "bfloat16"])
    assert ended.value.code == 2
    assert "bfloat16" in capsys.readouterr().err


def test_missing_run(tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _export(tmp_path / "absent", models) == 1
    _assert_one_line(capsys, "absent")
    assert not models.exists()


@pytest.mark.parametrize("name", ["report.json", "report.png", "config.json", "samples.npz", "weights.safetensors"])
def test_run_that_is_not_whole(
    run_folder: Path, tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    assert _export(tmp_path / "run", models) == 1
    _assert_one_line(capsys, name)
    assert not models.exists()


@pytest.mark.parametrize("name", ["../demo", "", "a b", ".demo"])
def test_bad_name(run_folder: Path, models: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert _export(run_folder, models, name=name) == 1
    _assert_one_line(capsys, f"name is {name!r}")
    assert not models.exists()


@pytest.mark.parametrize("version", ["0", "-3", str(10**300)])
def test_bad_version(run_folder: Path, models: Path, capsys: pytest.CaptureFixture[str], version: str) -> None:
    assert _export(run_folder, models, f"--version={version}") == 1
    _assert_one_line(capsys, f"version is {version}")
    assert not models.exists()


def _bytes(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_existing_version(run_folder: Path, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _export(run_folder, models) == 0
    before = _bytes(models / "demo" / "1")
    capsys.readouterr()
    assert _export(run_folder, models, "--version", "1") == 1
    _assert_one_line(capsys, f"{models}/demo/1", "exists")
    assert _bytes(models / "demo" / "1") == before


def test_models_that_is_a_file(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").write_text("a file")
    assert _export(run_folder, tmp_path / "models") == 1
    _assert_one_line(capsys, "cannot publish")


def test_interrupt_is_one_line(
    run_folder: Path, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("export.__main__.export", interrupted)
    assert _export(run_folder, models) == 130
    _assert_one_line(capsys, "interrupted; nothing was published")


@pytest.mark.parametrize("option", ["--nam", "--verison", "--run-folder"])
def test_misspelt_option_is_named(capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--run", "r", "--models", "m", "--name", "n", option, "1"])
    assert ended.value.code == 2
    assert option in capsys.readouterr().err
