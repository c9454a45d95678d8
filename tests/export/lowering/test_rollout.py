"""Several values in one graph: as if each had been seen before the next was asked for."""

import io

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from export import gate
from export.artifact import golden
from export.artifact.golden import GoldenCase, Inputs
from export.artifact.manifest import CARRY, SLIDING
from export.build import describe, roll
from export.errors import ExportError
from export.evaluate import Reference
from export.gate import Session
from export.lowering.rollout.carry import closes
from export.lowering.rollout.sliding import LONGEST_SLID
from export.lowering.source import source_of
from tests.export import oracle
from tests.export.lowering.test_options import PLAIN, configs
from tests.export.models import Lowered, config, lower_all, make_inputs, make_model
from training.model import ModelConfig, RecurrentModel

LENGTH = 5


def slid(model: RecurrentModel, inputs: Inputs, length: int) -> NDArray[np.float64]:
    """The textbook's loop: what was said is written behind the window."""
    window_BTF = inputs["window"].astype(np.float64)
    said = []
    for _ in range(length):
        said.append(oracle.predict_all(model, inputs | {"window": window_BTF})["next"])
        window_BTF = np.concatenate((window_BTF[:, 1:], said[-1][:, :, None]), axis=1)
    return np.concatenate(said, axis=1)


def carried(lowered: Lowered, inputs: Inputs, length: int) -> NDArray[np.float32]:
    """The step graph's loop: what was said is its next value."""
    window_BTF = inputs["window"]
    state = {
        tensor.name: np.zeros((len(window_BTF), *(size for size in tensor.shape[1:] if size != "batch")), np.float32)
        for tensor in lowered.graphs["step"].inputs
        if tensor.name.startswith("initial_")
    }
    context = {name: array for name, array in inputs.items() if name == "series"}
    values = list(np.moveaxis(window_BTF, 1, 0))
    said: list[NDArray[np.float32]] = []
    while len(said) < length:
        value_BF = np.ascontiguousarray(values.pop(0) if values else said[-1])
        outputs = lowered.session.run("step", {"value": value_BF, **state, **context})
        state = {name: outputs[name.replace("initial_", "final_")] for name in state}
        if not values:
            said.append(outputs["next"])
    return np.concatenate(said, axis=1)


def assert_rolls(shape: ModelConfig) -> set[str]:
    """Every rollout there is, through the export gate and against a loop of its own; which there are."""
    model = make_model(shape)
    lowered = lower_all(model)
    rolled, reasons = roll(lowered.source, LENGTH)
    assert set(rolled) | set(reasons) == {SLIDING, CARRY}
    assert not set(rolled) & set(reasons)
    files = {name: proto.SerializeToString() for name, (_, proto) in rolled.items()}
    described = {name: graph for name, (graph, _) in rolled.items()}
    features = [f"feature_{k}" for k in range(shape.num_features)]
    manifest = msgspec.structs.replace(
        describe(model, lowered.source, dict(lowered.graphs) | described, "demo", features), rollout=LENGTH
    )
    inputs = make_inputs(shape)
    cases = gate.golden_cases(model, inputs, list(rolled), rollout=LENGTH)
    session = Session(files)
    for name in rolled:
        try:
            gate.check(model, manifest, files, [cases], only=[name])
        except ExportError as error:
            # A window of its own predictions may lie on one line, and its unit be nearly nothing. Export leaves it out.
            if shape.scaling != "window" or "ill-conditioned" not in str(error):
                raise
            continue
        expected = slid(model, inputs, LENGTH) if name == SLIDING else carried(lowered, inputs, LENGTH)
        outputs = cases[name].outputs | {"next": expected.astype(np.float64)}
        assert len(expected[0]) == LENGTH
        served = session.run(name, inputs)
        assert set(served) == set(cases[name].outputs) == {"next"} | ({"unit"} if shape.scaling != "fit" else set())
        for tensor in described[name].outputs:
            found = golden.compare(served[tensor.name], outputs, tensor, manifest, name)
            assert found.within, f"{name}: {found.share_of_limit:.3g} times the limit"
    return set(rolled)


@settings(max_examples=60, deadline=None)
@given(configs())
def test_any_model_that_reads_nothing_else_rolls(shape: ModelConfig) -> None:
    shape = msgspec.structs.replace(shape, num_features=1, calendar=(), horizon=1)
    both = {SLIDING} if source_of(make_model(shape)).not_steppable else {SLIDING, CARRY}
    assert assert_rolls(shape) == both


@pytest.mark.parametrize("transform", ["standardize", "difference", "value-and-difference"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru-reset-after", "nn.lstm", "nn.gru"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_every_cell_rolls(cell: str, transform: str, num_layers: int) -> None:
    shape = config(cell, transform=transform, num_layers=num_layers)
    assert assert_rolls(shape) == {SLIDING, CARRY}
    is_closed = cell in ("rnn", "lstm", "nn.lstm") and num_layers == 1 and transform != "value-and-difference"
    assert closes(source_of(make_model(shape))) == is_closed


def test_a_state_that_goes_on_is_not_a_window_that_slides() -> None:
    """Or one of the two would not be what it is called."""
    model = make_model(config("lstm"))
    cases = gate.golden_cases(model, make_inputs(model.config), [SLIDING, CARRY], rollout=LENGTH)
    sliding, carry = (cases[name].outputs["next"] for name in (SLIDING, CARRY))
    np.testing.assert_array_equal(sliding[:, 0], carry[:, 0])
    assert np.abs(sliding[:, 1:] - carry[:, 1:]).min(axis=0).max() > 1e-4


def test_gates_swapped_in_the_closed_form_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from export.lowering.rollout import carry as module  # noqa: PLC0415 (what is spoiled)

    honest = module.closed

    def swapped(*arguments: object) -> object:
        w, r, b = honest(*arguments)  # type: ignore[arg-type]  # passed on
        half = len(r[0]) // 2
        return w, np.roll(r, half, axis=1), b

    monkeypatch.setattr(module, "closed", swapped)
    with pytest.raises(ExportError, match="does not compute what the model computes"):
        assert_rolls(config("lstm"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_features": 2}, "covariates and times to come are not known to a graph"),
        ({"calendar": ("day",)}, "covariates and times to come are not known to a graph"),
        ({"horizon": 2}, "one run gives several values already"),
        ({"transition_depth": 2, "window": LONGEST_SLID, "transform": "last-value"}, "would be too many nodes"),
    ],
)
def test_what_cannot_roll_says_why(changes: dict[str, object], reason: str) -> None:
    shape = msgspec.structs.replace(PLAIN, **({"num_features": 1} | changes))
    rolled, reasons = roll(source_of(make_model(shape)), LENGTH)
    assert not rolled
    assert any(reason in found for found in reasons.values())


def test_long_windows_carry_and_do_not_slide() -> None:
    rolled, reasons = roll(source_of(make_model(config(window=LONGEST_SLID + 1))), LENGTH)
    assert set(rolled) == {CARRY}
    assert reasons == {SLIDING: f"runs of {LONGEST_SLID + 1} steps gain nothing from it"}


def test_what_needs_the_whole_window_slides_and_does_not_carry() -> None:
    rolled, reasons = roll(source_of(make_model(config(transform="last-value"))), LENGTH)
    assert set(rolled) == {SLIDING}
    assert reasons == {CARRY: "transform 'last-value' needs the whole window"}


def test_the_limit_grows_with_every_value_fed_back() -> None:
    model = make_model(config("lstm"))
    source = source_of(model)
    inputs = make_inputs(model.config, 8)
    graph, _ = roll(source, LENGTH)[0][SLIDING]
    manifest = msgspec.structs.replace(describe(model, source, {SLIDING: graph}, "demo", ["value"]), rollout=LENGTH)
    expected = Reference(model, rollout=LENGTH).run(SLIDING, inputs)
    (tensor,) = graph.outputs
    limit = 1e-5 * source.target_scale
    for k in range(LENGTH):
        off = expected["next"].astype(np.float32)
        off[:, k] += np.float32(0.9 * limit * (k + 1))
        assert golden.compare(off, expected, tensor, manifest, SLIDING).within
        off[:, k] += np.float32(0.9 * limit * (k + 1) + 1e-4)
        assert not golden.compare(off, expected, tensor, manifest, SLIDING).within


def test_golden_holds_rollouts_of_their_own() -> None:
    case = GoldenCase({"window": np.zeros((1, 2, 1), np.float32)}, {"next": np.zeros((1, 2))})
    with np.load(io.BytesIO(golden.encode({"window": case, SLIDING: case, CARRY: case}))) as arrays:
        assert {name.split("/")[0] for name in arrays.files} == {"window", SLIDING, CARRY}
