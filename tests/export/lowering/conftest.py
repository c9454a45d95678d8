import pytest

from tests.export.models import Lowered, lower_all, make_model


@pytest.fixture(scope="module")
def lowered(request: pytest.FixtureRequest) -> Lowered:
    """One combination at a time: tests of the same one run after each other."""
    return lower_all(make_model(request.param))
