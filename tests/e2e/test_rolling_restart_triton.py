"""All three servers behind Envoy are restarted under tritonclient's load, and nothing that was accepted is lost.

What that means is in `tests.e2e.attempts`.
"""

import json
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.attempts import Attempt, outcome
from tests.e2e.envoy import envoy, needs_envoy
from tests.e2e.replicas import replicas
from tests.e2e.restarts import restart_all
from tests.server.harness import LIMIT_SECONDS
from tests.server.oracle import Oracle

pytestmark = [pytest.mark.e2e, needs_envoy]

ROOT = Path(__file__).parents[2]
INFER = "/inference.GRPCInferenceService/ModelInfer"
NUM_CALLERS = 6


@pytest.mark.parametrize(
    ("flags", "status", "message", "expected"),
    [
        ("-", "0", "-", "answered"),
        ("-", "14", "the server is shutting down", "not accepted"),
        ("-", "14", "version 1 of model 'demo' is still being loaded", "not accepted"),
        ("UF", "-", "-", "not accepted"),
        ("-", "14", "what was accepted could not be answered in time", "lost"),
        ("-", "13", "-", "lost"),
        ("UC", "-", "-", "lost"),
        ("UR", "-", "-", "not accepted"),
        ("UF,UC", "-", "-", "lost"),
    ],
)
def test_what_is_lost(flags: str, status: str, message: str, expected: str) -> None:
    assert outcome(Attempt(INFER, "127.0.0.1:1", flags, status, message)) == expected


def test_nothing_accepted_is_lost(models: Path, tmp_path: Path) -> None:
    demo = Oracle(models / "demo" / "1")
    windows = demo.random_windows(np.random.default_rng(5), 64)
    arrays = tmp_path / "calls.npz"
    np.savez(arrays, windows=windows, expected=demo.predict(windows))
    command = [sys.executable, "-m", "tests.e2e.triton_load"]
    with ExitStack() as stack:
        found = stack.enter_context(replicas(models, stack=stack))
        front = stack.enter_context(envoy(found, tmp_path))
        load = stack.enter_context(
            subprocess.Popen(
                [*command, front.target, str(arrays), str(NUM_CALLERS)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        try:
            restart_all(found, front, stack, "ModelInfer")
            answers = json.loads(load.communicate("", timeout=LIMIT_SECONDS)[0])
            cut = front.cut()
        finally:
            load.kill()
    assert not cut
    attempts = [each for each in front.attempts() if each.path == INFER]
    outcomes = Counter(outcome(each) for each in attempts)
    lost = Counter(each for each in attempts if outcome(each) == "lost")
    assert not lost, lost
    # Every answer that a server gave came to its caller, and no caller had another.
    assert outcomes["answered"] == answers["right"]
    assert answers["wrong"] == 0
    assert all(text.startswith("StatusCode.UNAVAILABLE: ") for text in answers["refused"]), answers
    assert sum(answers["refused"].values()) <= outcomes["not accepted"]
