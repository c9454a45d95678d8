"""The export gate refuses what does not compute what the model computes, and leaves nothing behind."""

from copy import copy
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from export import gate
from export.artifact.golden import Inputs
from export.artifact.manifest import Manifest
from export.build import describe, export
from export.errors import ExportError
from export.graph import GraphBuilder
from export.lowering import cells as lowering
from export.lowering import folding, transforms
from export.lowering.source import Source, Weights
from tests.export.conftest import dressed
from tests.export.models import TRANSFORMS, Lowered, config, lower_all, make_inputs, make_model
from training.cells import Cell, GRUCell, GRUResetAfterCell, LSTMCell
from training.run import Run

GATES: dict[str, tuple[type[Cell], tuple[str, ...]]] = {
    "lstm": (LSTMCell, ("input_gate", "forget_gate", "output_gate", "cell_gate")),
    "gru": (GRUCell, ("update_gate", "reset_gate", "hidden_candidate")),
    "gru-reset-after": (GRUResetAfterCell, ("update_gate", "reset_gate")),
    "nn.lstm": (LSTMCell, ("input_gate", "forget_gate", "output_gate", "cell_gate")),
    "nn.gru": (GRUResetAfterCell, ("update_gate", "reset_gate")),
}
SWAPS = [(kind, *pair) for kind, (_, names) in GATES.items() for pair in combinations(names, 2)]


def _swapped(g: GraphBuilder, one: str, other: str) -> GraphBuilder:
    """Adds to the same graph, with the weights of two gates exchanged."""
    exchange = {one: other, other: one}
    linear = g.linear

    def exchanged(x: str, layer: str, *, of_input: bool = False) -> str:
        prefix, _, gate_name = layer.rpartition(".")
        return linear(x, f"{prefix}.{exchange.get(gate_name, gate_name)}", of_input=of_input)

    same = copy(g)
    vars(same)["linear"] = exchanged
    return same


def _assert_nothing_published(models: Path) -> None:
    assert not models.exists() or list(models.rglob("*")) == []


@pytest.mark.parametrize("swap", SWAPS, ids="-".join)
def test_swapped_gates_are_refused(
    run: Run, models: Path, monkeypatch: pytest.MonkeyPatch, swap: tuple[str, str, str]
) -> None:
    kind, one, other = swap
    cell, _ = GATES[kind]
    step = lowering.STEPS[cell]
    monkeypatch.setitem(lowering.STEPS, cell, lambda g, layer, x, state: step(_swapped(g, one, other), layer, x, state))
    with pytest.raises(ExportError, match=r"does not compute what the model computes: .*times the limit"):
        export(dressed(run, config(kind)), models=models, name="demo")
    _assert_nothing_published(models)


def test_without_the_swap_the_same_models_pass(run: Run, models: Path) -> None:
    for version, kind in enumerate(GATES, start=1):
        assert export(dressed(run, config(kind)), models=models, name="demo").version == version


def test_update_gate_the_other_way_round_is_refused(run: Run, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX's and torch's GRU weight old and new the other way round: the mistake that is easiest to make."""
    update = lowering._update
    monkeypatch.setattr(lowering, "_update", lambda g, z, h, n: update(g, z, h, n) if h is None else update(g, z, n, h))
    with pytest.raises(ExportError, match="does not compute"):
        export(dressed(run, config("gru")), models=models, name="demo")
    _assert_nothing_published(models)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_forgotten_mean_is_refused(run: Run, models: Path, monkeypatch: pytest.MonkeyPatch, transform: str) -> None:
    monkeypatch.setattr(folding, "MOST_SCALES", -1.0)
    monkeypatch.setattr(transforms, "_scaled", lambda g, _, x: g.op("Div", x, g.weight("transform.scale")))
    with pytest.raises(ExportError, match="does not compute"):
        export(dressed(run, config("gru", transform=transform)), models=models, name="demo")
    _assert_nothing_published(models)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_mean_forgotten_in_the_weights_is_refused(
    run: Run, models: Path, monkeypatch: pytest.MonkeyPatch, transform: str
) -> None:
    fold_input = folding._fold_input

    def forgetful(source: Source, weights: Weights) -> None:
        mean = weights["transform.mean"].copy()
        weights["transform.mean"][:] = 0
        fold_input(source, weights)
        weights["transform.mean"][:] = mean

    monkeypatch.setattr(folding, "MOST_SCALES", 100.0)
    monkeypatch.setattr(folding, "_fold_input", forgetful)
    with pytest.raises(ExportError, match="does not compute"):
        export(dressed(run, config("gru", transform=transform)), models=models, name="demo")
    _assert_nothing_published(models)


def test_wrong_step_graph_alone_is_refused(run: Run, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = transforms.encode_value
    monkeypatch.setattr(
        transforms, "encode_value", lambda g, source, value, state: encode(g, source, value, {**state, "last": value})
    )
    with pytest.raises(ExportError, match=r"step graph \(step\.onnx\)"):
        export(dressed(run, config("lstm")), models=models, name="demo")
    _assert_nothing_published(models)


def test_chaotic_model_is_refused_as_ill_conditioned(run: Run, models: Path) -> None:
    """An rnn with large weights doubles every rounding at each step; no float32 graph could follow it for long."""
    shape = config("rnn", transform="standardize", window=100, hidden_size=16)
    with pytest.raises(ExportError, match=r"^ill-conditioned: .*off by [0-9.e+-]+, [0-9.e+]+ times the limit"):
        export(dressed(run, shape, bound=2.0), models=models, name="demo")
    _assert_nothing_published(models)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_model_that_answers_no_number_is_refused(run: Run, models: Path, value: float) -> None:
    broken = dressed(run, config("lstm"))
    with torch.no_grad():
        broken.model.head.point.bias.fill_(value)
    with pytest.raises(ExportError, match=r"^ill-conditioned: .*off by inf"):
        export(broken, models=models, name="demo")
    _assert_nothing_published(models)


class TestCheck:
    """gate.check alone, on outputs that are wrong in one place."""

    @pytest.fixture
    def lowered(self) -> Lowered:
        return lower_all(make_model(config("gru")))

    @pytest.fixture
    def manifest(self, lowered: Lowered) -> Manifest:
        return describe(lowered.model, lowered.source, dict(lowered.graphs), "demo", ["value"])

    def test_right_graphs_pass_with_their_worst_deviation(self, lowered: Lowered, manifest: Manifest) -> None:
        cases = gate.golden_cases(lowered.model, make_inputs(lowered.model.config), ["window", "step"])
        worst = gate.check(lowered.model, manifest, lowered.files, [cases])
        assert 0 < worst.share_of_limit < 1
        assert worst.abs_error > 0

    @pytest.mark.parametrize("row", [0, 6, 63])
    @pytest.mark.parametrize("position", [0, 1])
    def test_one_wrong_answer_in_any_row_of_any_case_is_refused(
        self, lowered: Lowered, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, row: int, position: int
    ) -> None:
        cases = [
            gate.golden_cases(lowered.model, make_inputs(lowered.model.config, seed=seed), ["window"])
            for seed in (1, 2)
        ]
        target = cases[position]["window"].inputs["window"][row]
        right = gate.Session.run

        def wrong_once(session: gate.Session, graph: str, inputs: Inputs) -> dict[str, NDArray[np.float32]]:
            outputs = right(session, graph, inputs)
            hit = (inputs["window"] == target).all(axis=(1, 2))
            return {name: np.where(hit[:, None], array + np.float32(0.01), array) for name, array in outputs.items()}

        monkeypatch.setattr(gate.Session, "run", wrong_once)
        with pytest.raises(ExportError, match="output 'next'"):
            gate.check(lowered.model, manifest, lowered.files, cases)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_random_windows_are_of_the_model_s_own_scale(transform: str) -> None:
    shape = config(transform=transform, num_features=3)
    model = make_model(shape)
    windows = gate.random_inputs(model, make_inputs(shape), np.random.default_rng(0), 500)["window"]
    assert windows.dtype == np.float32
    assert windows.shape == (500, shape.window, 3)
    assert len(np.unique(windows[:, 0, 0])) > 50
    varying = windows if transform == "standardize" else np.diff(windows, axis=1)
    # Where the cells see values and differences, those of the differences are behind.
    np.testing.assert_allclose(varying.std(axis=(0, 1)), model.transform.scale.numpy()[-3:], rtol=0.1)
