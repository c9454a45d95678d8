"""The libraries beside us: each in a virtual environment of its own, asked through a script that runs there."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy.series import Series
from benchmarks.environment import environment

TORCH = "torch==2.13.0"
SCRIPTS = Path(__file__).parent / "peers"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A library, its models, and the settings that differ from its defaults.

    `choices` are further settings, the default first; the first model's smallest RMSE on the last fold says which. The
    default stands beside it in any case.
    `same_model` are the settings that make its model and its batch those that ours is timed with; they take the hidden
    size, the batch size and the steps to run.
    """

    name: str
    version: str
    models: tuple[str, ...]
    timed: str
    settings: dict[str, Any]
    choices: tuple[dict[str, Any], ...]
    same_model: Callable[[int, int, int], dict[str, Any]]

    @property
    def script(self) -> Path:
        """What runs in the environment."""
        return SCRIPTS / f"{self.name}_peer.py"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a script is asked: values in raw units, the first `num_fit` to fit on, then those to validate on."""

    values: list[float]
    num_fit: int
    num_validation: int
    window: int
    seed: int
    model: str
    settings: dict[str, Any]
    only_time: bool = False


def of_series(series: Series, **rest: Any) -> Request:
    """The request for a series' own parts."""
    return Request(values=series.values.tolist(), num_fit=series.num_fit, num_validation=series.num_validation, **rest)


def install(peer: Peer, folder: Path, say: Callable[[str], None]) -> Path:
    """The environment's python; made first if it is not there. torch goes in first, so that pip takes its CPU build."""
    wanted = [TORCH, f"{peer.name}=={peer.version}", "pytorch-lightning"]
    return environment(folder, peer.name, peer.version, [[TORCH], wanted], say)


def ask(peer: Peer, python: Path, request: Request) -> dict[str, Any]:
    """The script's answer. Raises RuntimeError with its last words where it fails."""
    with tempfile.TemporaryDirectory() as name:
        asked, answer = Path(name, "request.json"), Path(name, "answer.json")
        asked.write_text(json.dumps(vars(request)))
        done = subprocess.run(
            [str(python), str(peer.script), str(asked), str(answer)],
            check=False,
            capture_output=True,
            text=True,
            cwd=name,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        if done.returncode:
            raise RuntimeError(f"{peer.name} {request.model} failed: {done.stderr.strip()[-2000:]}")
        found: dict[str, Any] = json.loads(answer.read_text())
        return found
