"""What we are made of, and what is known against it: `audit.py PIP_AUDIT CONSTRAINTS EXCUSED`.

Exit status 0 where nothing is known, or nobody could be asked, which is said; 1 where something is.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# How many names a line may have.
SHOWN = 5


def excused(text: str) -> set[str]:
    """The ids in a list of excuses. Raises ValueError where one has no reason."""
    found = set()
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition(" ")
            if not reason.strip():
                raise ValueError(f"{name} is excused without a reason")
            found.add(name)
    return found


def verdict(report: dict[str, Any], excuses: set[str]) -> tuple[int, str]:
    """Exit status and what to say, of pip-audit's JSON."""
    dependencies = report["dependencies"]
    asked = [each for each in dependencies if "skip_reason" not in each]
    if not asked:
        # pip-audit calls that success.
        return 0, f"audit: SKIPPED: nobody could be asked about any of {len(dependencies)} packages"
    found, known = [], set()
    for each in asked:
        for advisory in each.get("vulns", ()):
            names = {advisory["id"], *advisory.get("aliases", ())}
            known |= names
            if not names & excuses:
                fixed = ", ".join(advisory.get("fix_versions", ())) or "nowhere yet"
                found.append(f"{each['name']} {each['version']}: {advisory['id']}, fixed in {fixed}")
    stale = sorted(excuses - known)
    if stale:
        found.append(f"excused, and no longer known: {', '.join(stale)}")
    if found:
        return 1, "\n".join(f"audit: {each}" for each in found)
    unasked = [each["name"] for each in dependencies if "skip_reason" in each]
    others = f"; not known there: {', '.join(unasked[:SHOWN])} ({len(unasked)} in all)" if unasked else ""
    return 0, f"audit: {len(asked)} packages, nothing is known against them{others}"


def main(pip_audit: str, constraints: str, excuses: str) -> int:
    """Returns the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        command = [pip_audit, "--disable-pip", "--no-deps", "--requirement", constraints, "--progress-spinner", "off"]
        done = subprocess.run(  # noqa: S603 (what the Makefile names)
            [*command, "--timeout", "15", "--format", "json", "--output", str(file)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if file.exists() and (text := file.read_text()):
            status, said = verdict(json.loads(text), excused(Path(excuses).read_text()))
        elif "onnection" in done.stderr or "timed out" in done.stderr:
            status, said = 0, "audit: SKIPPED: the source of advisories cannot be reached"
        else:
            status, said = 1, f"audit: pip-audit failed: {done.stderr.strip()}"
    sys.stdout.write(f"{said}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
