"""The command with tiny settings: three files, and one line for what cannot be done."""

import argparse
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from training.errors import OptionError
from training.memory.command import add_parser, run
from training.memory.report import MemoryReport

TINY = ("--steps", "6", "--lengths", "4,8", "--hidden", "4", "--batch-size", "4", "--held-out", "10", "--quiet")


def memory(*options: str) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return run(parser.parse_args(["memory", *options]), Console(quiet=True))


def test_three_files_are_written_and_the_table_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of an earlier command are replaced."""
    out = tmp_path / "deep" / "memory"
    out.mkdir(parents=True)
    (out / "memory.json").write_text("earlier")
    assert memory(*TINY, "--cells", "rnn,lstm,gru", "--out", str(out)) == 0
    assert sorted(path.name for path in out.iterdir()) == ["memory.json", "memory.md", "memory.png"]
    report = msgspec.json.decode((out / "memory.json").read_bytes(), type=MemoryReport)
    assert [(trial.length, trial.cell) for trial in report.trials] == [
        (length, cell) for length in (4, 8) for cell in ("rnn", "lstm", "gru")
    ]
    assert report.options.steps == 6
    assert [trial.scores[-1].step for trial in report.trials] == [6] * 6
    assert (out / "memory.md").read_text().count("\n| ") == 1 + 6
    assert (out / "memory.png").read_bytes().startswith(b"\x89PNG")
    assert "who still remembers?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--steps", "0"), "steps is 0; it must be at least 1"),
        (("--cells", "lstm,tansformer"), "cells holds 'tansformer'"),
        (("--cells", ""), "cells holds ''"),
        (("--lengths", "50,many"), "lengths is '50,many'; it must be whole numbers with commas between"),
        (("--lengths", "2"), "lengths holds 2; it must be at least 4"),
        (("--learning-rate", "inf"), "learning_rate is inf"),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_written(
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(OptionError) as caught:
        memory(*TINY, "--out", str(tmp_path / "out"), *options)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OptionError, match="which is a file; it must be a folder"):
        memory(*TINY, "--out", str(tmp_path / "taken"))
    assert (tmp_path / "taken").read_text() == "mine"
