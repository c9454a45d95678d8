"""Programs that call a server by somebody else's client, run beside it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.server.harness import server_process

ROOT = Path(__file__).parents[2]


def answers_of(program: str, models: Path, arrays: bytes, *options: str, python: Path | None = None) -> dict[str, Any]:
    """What a program printed that was given a server's target and, on standard input, arrays.

    `program` is a module, or with a `python` of another environment a file. The server must come through without a
    traceback.
    """
    command = [sys.executable, "-m", program] if python is None else [str(python), program]
    with server_process(models, "--reference", "off", *options) as process:
        process.await_ready()
        done = subprocess.run([*command, process.target], input=arrays, cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode() + process.log
        process.terminate()
        assert process.wait() == 0
        assert "Traceback" not in process.log, process.log
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers
