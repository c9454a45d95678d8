"""Artifacts built once, and servers on them."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from tests.repository import shared_models
from tests.server.harness import Running, serving
from tests.server.oracle import Oracle

MODELS = ("demo", "covariates", "last", "demand", "windowed")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared model repository. Read it; copy it to change it."""
    return shared_models(tmp_path_factory)


@pytest.fixture(scope="session")
def half_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same models, exported with a float16 graph each."""
    return shared_models(tmp_path_factory, "float16")


@pytest.fixture(scope="session")
def oracles(models: Path) -> dict[str, Oracle]:
    """Right answers by model name."""
    return {name: Oracle(models / name / "1") for name in MODELS}


@pytest.fixture
def demo(oracles: dict[str, Oracle]) -> Oracle:
    return oracles["demo"]


@pytest.fixture
def covariates(oracles: dict[str, Oracle]) -> Oracle:
    return oracles["covariates"]


@pytest.fixture
def last(oracles: dict[str, Oracle]) -> Oracle:
    return oracles["last"]


@pytest.fixture
def demand(oracles: dict[str, Oracle]) -> Oracle:
    return oracles["demand"]


@pytest.fixture
def windowed(oracles: dict[str, Oracle]) -> Oracle:
    return oracles["windowed"]


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(models: Path) -> AsyncIterator[Running]:
    """A server with every model loaded, no reference, shared by a module, which runs on one loop."""
    async with serving(models) as running:
        yield running
