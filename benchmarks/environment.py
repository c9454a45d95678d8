"""Virtual environments of libraries that cannot share ours."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def make_ignored(folder: Path) -> None:
    """Make a folder that git does not see."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")


def environment(
    folder: Path, name: str, version: str, steps: Sequence[Sequence[str]], say: Callable[[str], None]
) -> Path:
    """The environment's python; made first if it is not there, by `pip install` with each step's arguments."""
    make_ignored(folder)
    home = folder / name
    python = home / "bin" / "python"
    done = home / f"installed-{version}"
    if not done.exists():
        say(f"install {name} {version} into {home}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        for step in steps:
            subprocess.run(
                [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *step], check=True
            )
        done.touch()
    return python
