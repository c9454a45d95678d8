"""One fitted run, and models of any shape in a run's clothes."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from export.build import Published, export
from tests.export.models import make_inputs, make_model
from training.model import ModelConfig
from training.run import Run, load_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a short fit leaves; nobody may change it."""
    folder = tmp_path_factory.mktemp("runs") / "counting"
    options = {"--data": "counting", "--cell": "lstm", "--window": "5", "--hidden": "8", "--epochs": "3"}
    command = [sys.executable, "-m", "training", "fit", "--quiet", "--out", str(folder)]
    for name, value in options.items():
        command += [name, value]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    return folder


@pytest.fixture(scope="session")
def run(run_folder: Path) -> Run:
    return load_run(run_folder)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """`counting` 1 as fitted, and `last` 1, which cannot be stepped; nobody may change them."""
    models = tmp_path_factory.mktemp("models")
    export(run, models=models, name="counting")
    shape = ModelConfig(cell="gru", window=6, num_features=2, hidden_size=8, num_layers=2, transform="last-value")
    export(dressed(run, shape), models=models, name="last")
    return models


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Where to publish; not there yet."""
    return tmp_path / "models"


@pytest.fixture
def published(run: Run, models: Path) -> Published:
    return export(run, models=models, name="counting")


def dressed(run: Run, shape: ModelConfig, *, bound: float = 0.5) -> Run:
    """The run as it would be if it had fitted a random model of this shape."""
    features = tuple(f"feature_{k}" for k in range(shape.num_features))
    return dataclasses.replace(
        run,
        model=make_model(shape, bound=bound),
        config=msgspec.structs.replace(run.config, model=shape, features=features),
        samples=make_inputs(shape, 80),
    )
