"""python -m tests.e2e.commands: the command blocks of our pages, run as a newcomer would; the rest is listed.

    ```sh           run here, in a scratch folder, one after another: the pages are to be followed from top to bottom
    ```sh cluster   listed: needs a cluster or a registry
    ```sh of make   listed: CI runs those targets themselves; here only that they exist

Two things are rewritten: the two default ports, so that a server of somebody else's on this machine is not asked; and a
line that starts a server, which is started beside the others and waited for.
"""

import math
import os
import re
import shlex
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.ports import lasting_ports
from tests.server.harness import eventually_sync

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/deploying.md", "docs/newcomer.md")
LIMIT_SECONDS = 120.0

_BLOCK = re.compile(r"^```sh(| cluster)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Whatever opens a block, so that no kind of it is passed over.
_ANY = re.compile(r"^```(sh\b.*|bash.*|shell.*|console.*)$", re.MULTILINE)
_MAKE = re.compile(r"^make (\S+)\s*(#.*)?$")


@dataclass(frozen=True)
class Block:
    """Commands of a page. `kind`: here, cluster or make."""

    page: str
    line: int
    kind: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def targets(self) -> list[str]:
        """Of a block of make."""
        return [found[1] for line in self.text.splitlines() if (found := _MAKE.match(line))]


def blocks(page: str, text: str) -> list[Block]:
    """Every block of a page. Raises ValueError if there is one of no known kind."""
    found = []
    for match in _BLOCK.finditer(text):
        lines = match[2].splitlines()
        kind = match[1].strip() or ("make" if all(_MAKE.match(each) for each in lines) else "here")
        found.append(Block(page, text.count("\n", 0, match.start()) + 1, kind, match[2]))
    if len(found) != len(_ANY.findall(text)):
        raise ValueError(f"{page}: a block of commands is neither `sh` nor `sh cluster`")
    return found


def all_blocks() -> list[Block]:
    """Of all pages."""
    return [each for page in PAGES for each in blocks(page, (ROOT / page).read_text())]


class Follower:
    """Somebody who follows a page in a folder with a `.venv` and a series.csv."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._grpc, self._metrics = lasting_ports(2)
        (folder / ".venv").symlink_to(Path(sys.prefix))
        # A day and a week in it, so that there is something to learn; 600 hours.
        values = (50 + 10 * math.sin(k * math.tau / 24) + 3 * math.sin(k * math.tau / 168) for k in range(600))
        rows = [f"2024-01-{1 + k // 24:02}T{k % 24:02}:00:00Z,{value:.3f}" for k, value in enumerate(values)]
        (folder / "series.csv").write_text("\n".join(["time,value", *rows[: 31 * 24]]) + "\n")
        self._environ = {
            **os.environ,
            # What is checked out here, whatever else is installed.
            "PYTHONPATH": str(ROOT),
            "NEXTVALUE_GRPC": f"127.0.0.1:{self._grpc}",
            "NEXTVALUE_METRICS": f"127.0.0.1:{self._metrics}",
        }

    def follow(self, block: Block) -> str:
        """Run a block; what it printed. Raises AssertionError if a command fails or takes too long."""
        text = block.text.replace("127.0.0.1:50051", f"127.0.0.1:{self._grpc}")
        text = text.replace("127.0.0.1:9464", f"127.0.0.1:{self._metrics}")
        printed = ""
        waiting: list[str] = []
        for line in text.splitlines():
            if " -m server " in line:
                printed += self._run(waiting, block)
                waiting = []
                self._serve(line)
            else:
                waiting.append(line)
        return printed + self._run(waiting, block)

    def _run(self, lines: list[str], block: Block) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )
        assert done.returncode == 0, f"{block.place}: {done.stdout}"
        return done.stdout

    def _serve(self, line: str) -> None:
        log = self._folder / "server.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                shlex.split(line), cwd=self._folder, env=self._environ, stdout=output, stderr=subprocess.STDOUT
            )

        def end() -> None:
            process.terminate()
            try:
                process.wait(LIMIT_SECONDS)
            finally:
                process.kill()

        self._stack.callback(end)

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()
            return " ready\n" in log.read_text()

        eventually_sync(is_ready, f"the server to be ready: {line}")


def main() -> None:
    """Run what can be run, list the rest."""
    found = all_blocks()
    for page in PAGES:
        with ExitStack() as stack:
            follower = Follower(Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
            for block in (each for each in found if each.page == page and each.kind == "here"):
                sys.stdout.write(f"== {block.place}\n{block.text}{follower.follow(block)}\n")
    for kind, why in (("make", "CI runs these targets"), ("cluster", "these need a cluster")):
        for block in (each for each in found if each.kind == kind):
            sys.stdout.write(f"-- {block.place} not run here: {why}\n{block.text}\n")


if __name__ == "__main__":
    main()
