"""The model repository of tests.artifacts, built at most once per test session."""

import subprocess
import sys
from pathlib import Path

import pytest


def shared_models(tmp_path_factory: pytest.TempPathFactory, precision: str = "float32") -> Path:
    """The folder. Building needs torch, so a process of its own does it. With float16 each has a graph more."""
    models = tmp_path_factory.getbasetemp() / ("models" if precision == "float32" else f"models-{precision}")
    if not models.exists():
        command = [sys.executable, "-m", "tests.artifacts", str(models), precision]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return models
