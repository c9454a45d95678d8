"""Results on disk, so that an interrupted run goes on where it stood."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.environment import make_ignored
from training.files import write_atomically


class Store:
    """A folder with one file for each result, named by what it is of; a result asked for again is read back.

    A file also holds what the result was asked with: where that has changed, it is made anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_ignored(folder)

    def get(self, name: str, asked: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of `make`, or what it gave the last time it was asked for the same."""
        kept = self.find(name, asked)
        if kept is not None:
            return kept
        result = make()
        path = self.folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"asked": asked, "digest": _digest(asked), "result": result}).encode())
        return result

    def find(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result kept under this name, if it was asked for with the same."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            return None
        kept = json.loads(path.read_text())
        result: dict[str, Any] | None = kept["result"] if kept["digest"] == _digest(asked) else None
        return result


def _digest(asked: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
