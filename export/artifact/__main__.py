"""python -m export.artifact --models DIR: verify every file of every version by the digests of its manifest.

Needs neither torch nor onnxruntime nor a server: for an init step, a cron job, or a person.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from export.artifact.errors import ArtifactError
from export.artifact.folder import Artifact, versions


def parser() -> argparse.ArgumentParser:
    """The one option."""
    top = argparse.ArgumentParser(
        prog="python -m export.artifact",
        description="Verify every file of every version by the digests of its manifest.",
        allow_abbrev=False,
    )
    top.add_argument("--models", type=Path, required=True, metavar="DIR", help="the model repository")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Verify, say a line for each version. Returns 1 if one is damaged, or if there is none at all."""
    options = parser().parse_args(argv)
    found = damaged = 0
    try:
        names = sorted(path for path in options.models.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        print(f"export.artifact: {options.models}: {error.strerror}", file=sys.stderr)
        return 1
    for name in names:
        for version in sorted(versions(name)):
            found += 1
            try:
                Artifact(name / str(version)).verify()
            except ArtifactError as error:
                damaged += 1
                print(f"export.artifact: {name.name}/{version}: {error}", file=sys.stderr)
            else:
                print(f"{name.name}/{version} verified")
    if not found:
        print(f"export.artifact: {options.models}: no version of any model", file=sys.stderr)
    return 1 if damaged or not found else 0


if __name__ == "__main__":
    sys.exit(main())
