"""The tests' own idea of a right answer, held against what export wrote down."""

import numpy as np
import pytest

from export.artifact import golden
from export.artifact.folder import GOLDEN
from tests.server.oracle import Oracle


@pytest.mark.parametrize("name", ["demo", "covariates", "last"])
def test_the_oracle_agrees_with_golden(oracles: dict[str, Oracle], name: str) -> None:
    oracle = oracles[name]
    case = golden.decode(oracle.artifact.read(GOLDEN), oracle.manifest)["window"]
    # Both are float64: nothing but the order of additions differs.
    np.testing.assert_allclose(oracle.next(case.inputs["window"]), case.outputs["next"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["demo", "covariates", "last"])
def test_windows_have_answers_of_their_own(
    oracles: dict[str, Oracle], generator: np.random.Generator, name: str
) -> None:
    """Further apart than any tolerance: a neighbour's answer cannot pass for one's own."""
    oracle = oracles[name]
    answers = np.sort(oracle.next(oracle.random_windows(generator, 200))[:, 0])
    assert np.median(np.diff(answers)) > 20 * 1e-5 * oracle.manifest.transform.scale
