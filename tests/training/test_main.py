"""The command line: every error is one line and a status other than 0."""

import subprocess
import sys
from pathlib import Path

import pytest

from training.__main__ import main


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--window", "0"), "window is 0; it must be at least 1"),
        (("--layers", "0"), "num_layers is 0; it must be at least 1"),
        (("--epochs", "0"), "epochs is 0; it must be at least 1"),
        (("--learning-rate", "-1"), "learning_rate is -1.0; it must be above 0 and finite"),
        (("--test", "1.5"), "test is 1.5; it must be a share"),
        (("--test", "99"), "validation takes 10 and test 99; at least 1 must be left"),
        (("--window", "95"), "the fit part has no window of 95 rows"),
        (("--column", "cpu"), "'counting' has the one column 'value'"),
        (("--data", "missing.csv"), "missing.csv is not a file"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert main(["fit", "--data", "counting", "--out", str(tmp_path / "run"), "--quiet", *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options",
    [("--cell", "transformer"), ("--transform", "log"), ("--gaps", "zero"), ("--colum", "x"), ("--hidden", "many")],
)
def test_a_misspelt_option_is_one_line(capsys: pytest.CaptureFixture[str], options: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fit", "--data", "counting", "--out", "unused", *options])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert options[0] in error
    assert error.count("\n") == 1


def test_a_command_that_fails_prints_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", "fit", "--data", "missing.csv", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "error: missing.csv is not a file; give an existing CSV or Parquet file\n"
