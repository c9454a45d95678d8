"""KServe's InferenceGRPCClient works unchanged, from an environment of its own."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.programs import ROOT, answers_of
from tests.server.oracle import Oracle

pytestmark = pytest.mark.e2e

PYTHON = ROOT / "tests" / "e2e" / ".venvs" / "kserve" / "bin" / "python"
PROGRAM = "tests/e2e/kserve_calls.py"


@pytest.mark.skipif(not PYTHON.exists(), reason="KServe's client has an environment of its own: make kserve")
def test_kserve(models: Path) -> None:
    """Raw and typed, integers and texts, versions, parameters, requested outputs, refusals."""
    generator = np.random.default_rng(5)
    demo, demand = (Oracle(models / name / "1") for name in ("demo", "demand"))
    windows = demo.random_windows(generator, 3)
    call = dataclasses.replace(demand.random_call(generator, 6, 3), future=None)
    assert call.time_seconds is not None
    assert call.series is not None
    buffer = io.BytesIO()
    np.savez(
        buffer,
        demo=windows,
        ids=np.array(call.series),
        window=call.windows,
        time_seconds=call.time_seconds,
        series=demand.numbers(call.series),
    )
    answers = answers_of(PROGRAM, models, buffer.getvalue(), python=PYTHON)
    assert [answers[name] for name in ("live", "ready", "model_ready", "nobody_ready")] == [True, True, True, False]
    assert answers["raw"]["id"] == "kserve-1"
    for name, horizon in (("raw", 1), ("typed", 1), ("five", 5)):
        assert answers[name]["version"] == "1"
        demo.assert_right(np.array(answers[name]["next"], np.float32), demo.predict(windows, horizon))
    expected = demand.expect(call)
    for name in ("by_number", "by_id"):
        found = {key: np.array(answers[name][key], np.float32) for key in ("next", "lower", "upper")}
        demand.assert_right(found["next"], expected)
        demand.assert_ends_right(found["lower"], found["upper"], expected)
    assert set(answers["upper"]) == {"id", "version", "upper"}
    assert answers["upper"]["upper"] == answers["by_number"]["upper"]
    assert answers["nobody"] == (
        "StatusCode.NOT_FOUND: model is 'nobody'; the repository has: covariates, demand, demo, last, windowed"
    )
    assert answers["shape"] == (
        "StatusCode.INVALID_ARGUMENT: inputs[window].shape is [3, 3, 1]; the model takes [N, 5, 1]"
    )
    assert answers["output"] == (
        "StatusCode.INVALID_ARGUMENT: outputs[].name is 'elsewhere'; the model's output is 'next'"
    )
