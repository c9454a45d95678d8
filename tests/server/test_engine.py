"""An artifact's graphs in onnxruntime."""

from pathlib import Path

import numpy as np
import pytest

from export.artifact.errors import ArtifactError
from export.artifact.folder import Artifact
from server.engine import Engine, Session
from server.gate import load_engine
from server.provider import CPU, choose_provider
from tests.server.conftest import MODELS
from tests.server.oracle import Oracle


@pytest.fixture(scope="session", params=MODELS)
def artifact(request: pytest.FixtureRequest, models: Path) -> Artifact:
    return Artifact(models / request.param / "1")


def test_every_node_is_counted_where_it_runs(artifact: Artifact) -> None:
    """The session's own assignment, after its optimisations: all nodes, and all on the CPU."""
    engine, _ = load_engine(artifact, choose_provider("cpu"))
    counts = engine.nodes_by_provider()
    assert set(counts) == {CPU}
    manifest = artifact.manifest
    recurrent = {"rnn": 1, "gru": 3, "lstm": 4}[manifest.cell]  # Linears per step
    assert counts[CPU] >= recurrent * manifest.window * manifest.num_layers * manifest.transition_depth


def test_windows_give_what_the_equations_give(
    artifact: Artifact, oracles: dict[str, Oracle], generator: np.random.Generator
) -> None:
    oracle = oracles[artifact.manifest.name]
    engine, _ = load_engine(artifact, choose_provider("cpu"))
    for batch in (1, 2, 7, 64, 513):
        call = oracle.random_call(generator, batch, oracle.direct_horizon)
        inputs = {"window": call.windows, **call.context}
        if call.series is not None:
            inputs["series"] = oracle.numbers(call.series)
        found, expected = engine.run(inputs), oracle.expect(call)
        oracle.assert_right(found["next"], expected)
        if oracle.levels:
            oracle.assert_ends_right(found["lower"], found["upper"], expected)


def test_golden_is_replayed_at_load(artifact: Artifact) -> None:
    _, worst = load_engine(artifact, choose_provider("cpu"))
    assert worst.within
    assert worst.abs_error > 0, "nothing was compared"


def test_the_step_graph_is_not_kept(artifact: Artifact) -> None:
    engine, _ = load_engine(artifact, choose_provider("cpu"))
    assert set(engine.sessions) == {"window"}


def test_a_graph_that_is_none_names_its_file(models: Path) -> None:
    manifest = Artifact(models / "demo" / "1").manifest
    with pytest.raises(ArtifactError, match=r"^window\.onnx: onnxruntime cannot load it: "):
        Engine(manifest, {"window": b"not a graph"}, choose_provider("cpu"))


def test_a_session_names_its_outputs(models: Path, demo: Oracle, generator: np.random.Generator) -> None:
    session = Session((models / "demo" / "1" / "window.onnx").read_bytes(), choose_provider("cpu"))
    windows = demo.random_windows(generator, 3)
    outputs = session.run({"window": windows})
    assert set(outputs) == {"next"}
    demo.assert_right(outputs["next"], demo.next(windows))
