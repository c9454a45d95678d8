"""The command line: every error is one line and a status other than 0."""

import subprocess
import sys
from pathlib import Path

import numpy as np
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
        (("--seed", "-1"), "seed is -1; it must be from 0 to"),
        (("--seed", str(2**63)), f"seed is {2**63}; it must be from 0 to"),
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


def test_a_series_beyond_single_precision_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A counter at 10⁹ that grows by about 10: float32 numbers there are 64 apart, so its growth would be noise."""
    steps = np.random.default_rng(0).integers(5, 16, 400)
    rows = "\n".join(str(value) for value in 10**9 + np.cumsum(steps))
    (tmp_path / "bytes.csv").write_text(f"sent\n{rows}\n")
    assert main(["fit", "--data", str(tmp_path / "bytes.csv"), "--out", str(tmp_path / "run"), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert "column 'sent' reaches 1e+09, where single-precision numbers are 64 apart" in error
    assert not (tmp_path / "run").exists()
