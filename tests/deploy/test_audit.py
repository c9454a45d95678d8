"""What `make audit` says, and when it fails."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "audit"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", FOLDER / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GOOD: dict[str, Any] = {"name": "good", "version": "1", "vulns": []}
BAD: dict[str, Any] = {
    "name": "bad",
    "version": "2",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-9"], "fix_versions": ["3"]}],
}
UNASKED = {"name": "unasked", "skip_reason": "not found"}

VERDICTS: dict[str, tuple[list[dict[str, Any]], set[str], int, str]] = {
    "nothing known": ([GOOD], set(), 0, "1 packages, nothing is known"),
    "something known": ([GOOD, BAD], set(), 1, "bad 2: PYSEC-1, fixed in 3"),
    "excused": ([GOOD, BAD], {"PYSEC-1"}, 0, "nothing is known"),
    "excused by another name": ([BAD], {"CVE-9"}, 0, "nothing is known"),
    "an excuse for nothing": ([GOOD], {"CVE-9"}, 1, "no longer known: CVE-9"),
    "nobody asked": ([UNASKED, UNASKED], set(), 0, "SKIPPED: nobody could be asked about any of 2 packages"),
    "some not asked": ([GOOD, UNASKED], set(), 0, "not known there: unasked"),
}


@pytest.mark.parametrize("what", VERDICTS)
def test_verdicts(audit: ModuleType, what: str) -> None:
    dependencies, excuses, status, said = VERDICTS[what]
    found, message = audit.verdict({"dependencies": dependencies}, excuses)
    assert (found, said in message) == (status, True), message


def test_excuses_have_reasons(audit: ModuleType) -> None:
    assert audit.excused("# why\n\nCVE-1 only with a proxy\n") == {"CVE-1"}
    with pytest.raises(ValueError, match="CVE-2 is excused without a reason"):
        audit.excused("CVE-2\n")
    audit.excused((FOLDER / "excused.txt").read_text())


def pip_audit(tmp_path: Path, body: str) -> str:
    """A stand-in for the tool; `$OUT` is where its report goes."""
    tool = tmp_path / "pip-audit"
    tool.write_text(f'#!/bin/sh\nfor each; do OUT="$each"; done\n{body}\n')
    tool.chmod(0o755)
    return str(tool)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("echo 'requests.exceptions.ConnectionError: no route' >&2; exit 1", 0, "SKIPPED: the source"),
        ("echo 'no such option' >&2; exit 2", 1, "pip-audit failed: no such option"),
        ("""echo '{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}' > "$OUT" """, 0, "1 packages"),
        (
            """echo '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X"}]}]}' > "$OUT"; exit 1""",
            1,
            "a 1: X, fixed in nowhere yet",
        ),
    ],
)
def test_the_command(  # noqa: PLR0917 (fixtures and cases)
    audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, status: int, said: str
) -> None:
    excuses = tmp_path / "excused.txt"
    excuses.touch()
    assert audit.main(pip_audit(tmp_path, body), "constraints.txt", str(excuses)) == status
    assert said in capsys.readouterr().out
