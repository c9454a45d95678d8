"""The tests' own idea of a right answer, held against what export wrote down."""

import numpy as np
import pytest

from export.artifact import golden
from export.artifact.folder import GOLDEN
from tests.server.conftest import MODELS
from tests.server.oracle import Oracle


@pytest.mark.parametrize("name", MODELS)
def test_the_oracle_agrees_with_golden(oracles: dict[str, Oracle], name: str) -> None:
    oracle = oracles[name]
    case = golden.decode(oracle.artifact.read(GOLDEN), oracle.manifest)["window"]
    found = oracle.run(case.inputs)
    assert set(found) == set(case.outputs)
    for output, expected in case.outputs.items():
        # Both are float64: nothing but the order of additions differs.
        np.testing.assert_allclose(found[output], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_windows_have_answers_of_their_own(
    oracles: dict[str, Oracle], generator: np.random.Generator, name: str
) -> None:
    """Further apart than any tolerance: a neighbour's answer cannot pass for one's own."""
    oracle = oracles[name]
    expected = oracle.expect(oracle.random_call(generator, 200))
    # In units of the limit, of which each series has its own.
    answers = np.sort((expected.next / expected.unit)[:, 0])
    assert np.median(np.diff(answers)) > 20 * 1e-5 * oracle.manifest.transform.scale
