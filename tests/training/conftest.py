from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training.__main__ import main

FitCommand = Callable[..., Path]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def fit_command(tmp_path_factory: pytest.TempPathFactory) -> FitCommand:
    """Runs `fit` on the counting example with a small model, into a new folder or the one given."""

    def fit(*options: str, out: Path | None = None) -> Path:
        out = out or tmp_path_factory.mktemp("runs") / "run"
        small = ["--data", "counting", "--hidden", "4", "--batch-size", "256", "--epochs", "12", "--quiet"]
        assert main(["fit", *small, "--out", str(out), *options]) == 0
        return out

    return fit


@pytest.fixture(scope="session")
def finished_run(fit_command: FitCommand) -> Path:
    """A run to read, never to change."""
    return fit_command()
