"""golden.npz: cases are read back as they were, a wrong value is named, and nothing is ever unpickled."""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from export.artifact import golden
from export.artifact.errors import ArtifactError
from export.artifact.golden import BATCHES, GoldenCase
from export.artifact.limits import limit
from export.artifact.manifest import Manifest
from tests.export.artifact import samples

MANIFEST = samples.MANIFEST
VALID = golden.encode(samples.cases())


def _replay(cases: dict[str, GoldenCase], run: golden.RunGraph = samples.run_sums) -> None:
    golden.replay(MANIFEST, cases, run)


def _arrays() -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for graph, case in samples.cases().items():
        arrays |= {f"{graph}/{name}": array for name, array in case.inputs.items()}
        arrays |= {f"{graph}/{name}": array for name, array in case.outputs.items()}
    return arrays


def test_round_trip() -> None:
    decoded = golden.decode(VALID, MANIFEST)
    for graph, case in samples.cases().items():
        for sent, received in ((case.inputs, decoded[graph].inputs), (case.outputs, decoded[graph].outputs)):
            assert list(sent) == list(received)
            for name, array in sent.items():
                assert received[name].dtype == array.dtype
                np.testing.assert_array_equal(received[name], array)


def test_replay_passes_what_is_right() -> None:
    assert golden.replay(MANIFEST, golden.decode(VALID, MANIFEST), samples.run_sums).abs_error == 0.0


def test_replay_runs_every_batch_of_every_graph() -> None:
    asked: list[tuple[str, str, int]] = []

    def run(graph: str, inputs: golden.Inputs) -> golden.Outputs:
        asked.extend((graph, name, len(array)) for name, array in inputs.items())
        return samples.run_sums(graph, inputs)

    _replay(samples.cases(), run)
    assert asked == [
        *(("window", "window", batch) for batch in BATCHES),
        *(("step", name, batch) for batch in BATCHES for name in ("value", "initial_h.0")),
    ]


@pytest.mark.parametrize(
    ("graph", "output", "row", "batch"),
    [("window", "next", 0, 1), ("window", "next", 6, 7), ("step", "next", 63, 64), ("step", "final_h.0", 0, 1)],
)
@pytest.mark.parametrize("wrong", [0.001, -5.0, np.nan, np.inf])
def test_replay_names_what_is_wrong(graph: str, output: str, row: int, batch: int, wrong: float) -> None:
    cases = golden.decode(VALID, MANIFEST)
    cases[graph].outputs[output][row] += wrong
    with pytest.raises(ArtifactError) as caught:
        _replay(cases)
    file = MANIFEST.graphs[graph].file
    assert str(caught.value).startswith(
        f"golden.npz: {graph} graph ({file}), output {output!r}, batch {batch}: off by "
    )


@pytest.mark.parametrize(("share", "passes"), [(0.98, True), (1.02, False)])
def test_replay_holds_the_limit_of_the_output_s_own_scale(share: float, *, passes: bool) -> None:
    """The prediction's scale is 0.5, the state's is 1: the same error may pass in one and not in the other."""
    cases = golden.decode(VALID, MANIFEST)
    outputs = cases["window"].outputs["next"]
    outputs[3] += share * limit(outputs[3], 0.5, MANIFEST.tolerance)
    if passes:
        found = golden.replay(MANIFEST, cases, samples.run_sums)
        assert found.share_of_limit == pytest.approx(share, rel=1e-3)
    else:
        with pytest.raises(ArtifactError, match=r"1\.02 times the limit"):
            _replay(cases)


def test_replay_refuses_outputs_of_another_shape() -> None:
    def run(graph: str, inputs: golden.Inputs) -> golden.Outputs:
        return {name: array[:, 0] for name, array in samples.run_sums(graph, inputs).items()}

    with pytest.raises(ArtifactError, match=r"golden\.npz: window graph: .*shape \[1\]; the reference has \[1, 1\]"):
        _replay(samples.cases(), run)


@pytest.mark.parametrize("name", list(_arrays()))
def test_missing_array_is_named(name: str) -> None:
    arrays = _arrays()
    del arrays[name]
    with pytest.raises(ArtifactError, match=rf"golden\.npz: has no array '{name}'"):
        golden.decode(samples.npz(**arrays), MANIFEST)


class _Trap:
    """Unpickling it would raise something that no test expects."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (exec, ("raise SystemError('unpickled')",))


def test_pickled_objects_are_refused() -> None:
    trap = np.array([_Trap()], dtype=object)
    with pytest.raises(ArtifactError, match=r"golden\.npz: Object arrays cannot be loaded"):
        golden.decode(samples.npz(**{**_arrays(), "window/window": trap}), MANIFEST)
    with pytest.raises(ArtifactError, match=r"golden\.npz: Object arrays cannot be loaded"):
        golden.decode(samples.npz(**_arrays(), extra=trap), MANIFEST)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("window/window", lambda a: a.astype(np.float64)),
        ("window/next", lambda a: a.astype(np.float32)),
        ("window/next", lambda a: a.astype(str)),
        ("window/next", lambda a: a.astype(np.int64)),
        ("window/next", lambda a: a[:, 0]),
        ("window/next", lambda a: a[:-1]),
        ("window/window", lambda a: a[:, :-1]),
        ("step/final_h.0", lambda a: a[:, :1]),
        ("step/value", lambda a: a[0, 0]),
    ],
)
def test_arrays_that_are_not_what_the_manifest_says_are_named(
    name: str, change: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    arrays = _arrays()
    arrays[name] = change(arrays[name])
    graph = name.partition("/")[0]
    with pytest.raises(ArtifactError, match=rf"golden\.npz: (the arrays of '{graph}'|{name} is)"):
        golden.decode(samples.npz(**arrays), MANIFEST)


def test_cases_without_rows_are_refused() -> None:
    """They would pass every gate."""
    with pytest.raises(ArtifactError, match=r"golden\.npz: the arrays of 'window' do not share one number of rows"):
        golden.decode(samples.npz(**{name: array[:0] for name, array in _arrays().items()}), MANIFEST)


def test_every_graph_of_a_window_has_the_case_of_the_window() -> None:
    fused = msgspec.structs.replace(MANIFEST.graphs["window"], file="graphs/fused.onnx")
    manifest: Manifest = msgspec.structs.replace(MANIFEST, graphs={**MANIFEST.graphs, "fused": fused})
    decoded = golden.decode(VALID, manifest)
    assert set(decoded) == {"window", "fused", "step"}
    np.testing.assert_array_equal(decoded["fused"].outputs["next"], decoded["window"].outputs["next"])


def test_a_graph_without_a_case_is_named() -> None:
    arrays = {name: array for name, array in _arrays().items() if not name.startswith("step/")}
    with pytest.raises(ArtifactError, match="step/value"):
        golden.decode(samples.npz(**arrays), MANIFEST)


def test_a_lone_array_is_refused() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    with pytest.raises(ArtifactError, match=r"golden\.npz: "):
        golden.decode(buffer.getvalue(), MANIFEST)


@given(st.binary(max_size=100))
@example(b"")
@example(b"\x80\x04N.")
@example(b"PK\x03\x04")
@settings(deadline=None)
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"golden\.npz: "):
        golden.decode(data, MANIFEST)


@given(st.integers(0, len(VALID) - 1), st.integers(1, 255))
@settings(deadline=None, max_examples=300)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning", "ignore:Stored array in format 3")
def test_altered_bytes_give_cases_or_artifact_error(offset: int, change: int) -> None:
    """Digests refuse these long before; this is what stands behind them."""
    altered = bytearray(VALID)
    altered[offset] ^= change
    with contextlib.suppress(ArtifactError):
        assert set(golden.decode(bytes(altered), MANIFEST)) == {"window", "step"}
