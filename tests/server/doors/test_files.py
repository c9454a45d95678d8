"""Files looked at again: what is bad, half written or gone changes nothing and is said once."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from server.doors.files import Kept


def number(text: str) -> int:
    if not text.isdigit():
        raise ValueError("that is no number")
    return int(text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_new_value_counts_once(file: Path) -> None:
    kept = Kept("number", file.read_text, number)
    assert (kept.value, kept.look()) == (1, False)
    file.write_text("2")
    assert (kept.look(), kept.value, kept.look()) == (True, 2, False)


def test_a_bad_one_keeps_the_old_and_is_said_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept("number", file.read_text, number)
    file.write_text("two")
    assert [kept.look() for _ in range(3)] == [False] * 3
    assert kept.value == 1
    assert complaints(caplog) == ["number: what it was before stays in force; that is no number"]
    file.write_text("three")
    assert not kept.look()
    assert len(complaints(caplog)) == 2
    file.write_text("3")
    assert (kept.look(), kept.value) == (True, 3)


def test_one_that_is_gone_keeps_the_old(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept("number", file.read_text, number)
    file.unlink()
    assert [kept.look(), kept.look()] == [False, False]
    (complaint,) = complaints(caplog)
    assert "No such file" in complaint
    file.write_text("4")
    assert (kept.look(), kept.value) == (True, 4)


def test_one_that_is_being_written_waits_for_the_next_look() -> None:
    """Certificate and key change one after the other; what is made of the first alone must not count."""
    seen = iter(["1", "2", "3", "3", "3"])
    kept: Kept[str, int] = Kept("number", lambda: next(seen), number)
    assert (kept.look(), kept.value) == (False, 1)
    assert (kept.look(), kept.value) == (True, 3)


@pytest.mark.parametrize("see", [lambda: "none", lambda: Path("/nowhere/at/all").read_text()])
def test_the_first_value_must_be_good(see: Callable[[], str]) -> None:
    with pytest.raises((ValueError, OSError)):
        Kept("number", see, number)
