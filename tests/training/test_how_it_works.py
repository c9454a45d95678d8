"""docs/how-it-works.md: the code, pictures, commands and figures that it shows are there."""

import argparse
import re
import shlex
import textwrap
from pathlib import Path

import pytest

from training import options as fit_options
from training.explain import command as explain_command
from training.memory import command as memory_command

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-it-works.md"
TEXT = PAGE.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def is_in(block: str, source: str) -> bool:
    """Whether the lines stand together in the source, indented as a whole or not."""
    return any(f"\n{textwrap.indent(block, ' ' * depth)}" in f"\n{source}" for depth in (0, 4, 8, 12))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_code_on_the_page_is_the_cells_own(cell: str) -> None:
    (block,) = [code for code in blocks("python") if f"return {cell.upper()}State(" in code]
    source = (ROOT / "training" / "cells" / f"{cell}.py").read_text(encoding="utf-8")
    assert is_in(block, source)
    assert not is_in(block.replace("self.", "cell."), source), "the comparison sees nothing"


def test_no_other_code_is_on_the_page() -> None:
    assert len(blocks("python")) == 3


def test_every_picture_is_there_and_says_in_words_what_it_shows() -> None:
    pictures = re.findall(r"^!\[(.*?)\]\((.*?)\)$", TEXT, re.MULTILINE)
    assert [Path(path).name for _, path in pictures] == ["explain-lstm.png", "explain-gru.png", "memory.png"]
    for words, path in pictures:
        assert words
        assert (PAGE.parent / path).read_bytes().startswith(b"\x89PNG")


def test_every_link_leads_somewhere() -> None:
    for path in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert path.startswith("https://") or (PAGE.parent / path).exists(), path


def test_every_command_parses() -> None:
    """Each of `fit`, `explain` and `memory`, with the options it is shown with."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    commands = parser.add_subparsers(dest="command")
    for module in (fit_options, explain_command, memory_command):
        module.add_parser(commands)
    shown = [shlex.split(line) for block in blocks("sh") for line in block.splitlines() if " -m training " in line]
    parsed = [parser.parse_args(words[words.index("training") + 1 :]) for words in shown]
    assert {options.command for options in parsed} == {"fit", "explain", "memory"}


def test_the_figures_of_the_adding_problem_are_the_measured_ones() -> None:
    measured = (ROOT / "benchmarks" / "results" / "memory.md").read_text(encoding="utf-8")
    head, rows = re.findall(r"^\| T \| (.*) \|$\n^\|[-|]+\|$\n((?:^\| \d+ \| .* \|$\n)+)", TEXT, re.MULTILINE)[0]
    cells = head.split(" | ")
    assert cells == ["rnn", "lstm", "gru"]
    assert [row.split(" | ")[0] for row in rows.splitlines()] == ["| 50", "| 100", "| 200"]
    for row in rows.splitlines():
        length, *errors = row.strip("| ").split(" | ")
        for cell, error in zip(cells, errors, strict=True):
            pattern = rf"^\| {length} \| {cell} \| \d+ \| {re.escape(error.strip('*'))} \|"
            assert re.search(pattern, measured, re.MULTILINE), (length, cell, error)
