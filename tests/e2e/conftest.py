"""The model repository, as tests.server has it."""

from pathlib import Path

import pytest

from tests.repository import shared_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared model repository. Read it; copy it to change it."""
    return shared_models(tmp_path_factory)
