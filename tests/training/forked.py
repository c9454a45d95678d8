"""Processes that begin with torch and training imported already, alone or as workers of one fit."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401  (takes seconds; an optimiser would import it in every process)
from torch import distributed

import training.__main__  # noqa: F401  (the same)

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.training.forked"])


class Group:
    """Workers that call a function, as torchrun would start them; but nobody ends one for the other's sake.

    What they say lies in `folder`, a file for each.
    """

    def __init__(self, folder: Path, function: Callable[..., Any], *arguments: object, count: int = 2) -> None:
        # torchrun's agent holds one like it, and tells its workers the port.
        self._store: Any = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
        self._files = [folder / f"worker{rank}.txt" for rank in range(count)]
        shared = {
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self._store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        self.processes: list[BaseProcess] = [
            CONTEXT.Process(
                target=_work,
                args=(shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, str(file), function, arguments),
            )
            for rank, file in enumerate(self._files)
        ]
        for process in self.processes:
            process.start()

    def join(self, seconds: float) -> list[int | None]:
        """Wait for all; their exit codes, None for one that has not ended."""
        for process in self.processes:
            process.join(seconds)
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            process.kill()
        return codes

    def said(self) -> str:
        """What the workers said, one after the other."""
        return "".join(file.read_text() for file in self._files)


def _work(environment: dict[str, str], file: str, function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    os.environ |= environment
    sys.stdout = sys.stderr = Path(file).open("w", buffering=1)  # noqa: SIM115 (until the process ends)
    sys.exit(function(*arguments))
