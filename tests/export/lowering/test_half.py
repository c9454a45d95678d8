"""The graph whose cells compute in float16: within its row for every cell, and nothing beside the cells is float16.

onnxruntime's CPU kernels compute in float32 between casts, so a third opinion rounds after every operation, as devices
with float16 units do: onnx's own evaluator.
"""

import dataclasses

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from export import gate
from export.artifact import golden
from export.artifact.golden import Inputs
from export.artifact.limits import HALF as ROW
from export.artifact.limits import deviation
from export.build import describe, lower
from export.errors import ExportError
from export.evaluate import Reference
from export.lowering.half import half
from export.lowering.source import source_of
from export.lowering.unrolled import LONGEST_UNROLLED, unrolled
from tests.export.lowering.test_options import configs
from tests.export.models import KINDS, TRANSFORMS, config, make_inputs, make_model
from training.model import ModelConfig, RecurrentModel


def _rounded(proto: onnx.ModelProto, inputs: Inputs) -> dict[str, NDArray[np.float32]]:
    """What the graph gives where every node rounds what it gives."""
    names = [output.name for output in proto.graph.output]
    with np.errstate(over="ignore"):
        return dict(zip(names, ReferenceEvaluator(proto).run(names, inputs), strict=True))


def _assert_within_its_row(model: RecurrentModel, inputs: Inputs) -> None:
    """Through the export gate, and with every operation rounded."""
    source = source_of(model)
    graph, proto = half(source)
    features = [f"feature_{k}" for k in range(model.config.num_features)]
    manifest = describe(model, source, {"window": unrolled(source)[0], "half": graph}, "demo", features)
    assert manifest.tolerance_of("half") == ROW
    cases = gate.golden_cases(model, inputs, ["half"])
    session = gate.Session({"half": proto.SerializeToString()})
    golden.replay(manifest, cases, session.run)
    golden.replay(manifest, cases, lambda _, given: _rounded(proto, given))


@pytest.mark.parametrize("window", [1, 5, pytest.param(48, marks=pytest.mark.slow)])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("cell", KINDS)
def test_every_cell_is_within_its_row(cell: str, transform: str, window: int) -> None:
    shape = config(cell, transform=transform, window=window, num_layers=2, num_features=2)
    _assert_within_its_row(make_model(shape), make_inputs(shape))


@settings(max_examples=40, deadline=None)
@given(configs(), st.integers(0, 2**32))
def test_any_combination_of_options_is_within_its_row(shape: ModelConfig, seed: int) -> None:
    _assert_within_its_row(make_model(shape), make_inputs(shape, seed=seed))


@pytest.mark.parametrize("cell", KINDS)
def test_float16_is_what_it_computes_in(cell: str) -> None:
    """It is off by more than float32 would be: a graph that computed in that would pass all else here."""
    shape = config(cell)
    model = make_model(shape)
    inputs = make_inputs(shape)
    expected = Reference(model).run("window", inputs)["next"]
    scale = source_of(model).target_scale
    proto = half(source_of(model))[1]
    for found in (
        _rounded(proto, inputs)["next"],
        gate.Session({"half": proto.SerializeToString()}).run("half", inputs)["next"],
    ):
        assert found.dtype == np.float32
        assert 1e-6 * scale < np.abs(found - expected).max() < ROW.relative_to_scale * scale


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_raw_units_keep_their_precision(transform: str) -> None:
    """Around 30000 neighbours in float16 are 16 apart, where this series has a scale of a quarter."""
    shape = config("lstm", transform=transform)
    model = make_model(shape)
    is_level = transform == "standardize" or transform.startswith("value-")
    if is_level:
        model.transform.mean[:1] = 30_000.0
    model.transform.scale.fill_(0.25)
    model.transform.target_scale.fill_(0.25)
    if transform == "standardize":
        model.transform.target_mean.fill_(30_000.0)
    generator = np.random.default_rng(0)
    windows = (30_000 + 0.25 * generator.standard_normal((64, shape.window, 1))).astype(np.float32)
    _assert_within_its_row(model, {"window": windows})


def _elem_types(proto: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True).graph
    known = {each.name: each.type.tensor_type.elem_type for each in (*inferred.value_info, *inferred.input)}
    known |= {each.name: each.type.tensor_type.elem_type for each in inferred.output}
    return known | {each.name: each.data_type for each in inferred.initializer}


@pytest.mark.parametrize("cell", KINDS)
def test_products_and_gates_are_float16_and_all_around_them_float32(cell: str) -> None:
    proto = half(source_of(make_model(config(cell, transform="standardize", num_layers=2))))[1]
    types = _elem_types(proto)
    float16, float32 = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    for node in proto.graph.node:
        if node.op_type in {"Sigmoid", "Tanh", "Gemm", "Concat", "Split", "Squeeze", "Transpose"}:
            expected = float32 if "head.point.weight" in node.input else float16
            assert {types[name] for name in node.output} == {expected}, node
        if node.op_type in {"Sub", "Div"} and "transform" in "".join(node.input):
            assert types[node.output[0]] == float32
    assert [node.op_type for node in proto.graph.node].count("Cast") == 2
    weights = {each.name: each.data_type for each in proto.graph.initializer}
    assert all(kind == float16 for name, kind in weights.items() if name.startswith("layers."))
    assert all(kind == float32 for name, kind in weights.items() if name.startswith(("head.", "transform.")))


def test_weights_take_half_the_room_and_are_stored_once() -> None:
    source = source_of(make_model(config("lstm", window=9, hidden_size=32)))
    stored = [each for each in half(source)[1].graph.initializer if each.name.startswith("layers.")]
    assert len({each.name for each in stored}) == len(stored)
    # Without a state before it, the first step has no use for what is forgotten of it.
    read_once_more = [weight for name, weight in source.weights.items() if name.endswith("gate.weight")]
    numbers = sum(weight.size for name, weight in source.weights.items() if name.startswith("layers."))
    numbers += sum(weight[:, :-32].size for weight in read_once_more) * 3 // 4
    assert sum(numpy_helper.to_array(each).nbytes for each in stored) == 2 * numbers


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_beyond_float16_gives_a_number(cell: str, sign: int) -> None:
    """Two inputs at infinity with weights of unlike signs would sum to no number."""
    shape = config(cell, transform="standardize", num_features=2)
    model = make_model(shape)
    model.transform.mean.fill_(0)
    model.transform.scale.fill_(1)
    windows = np.full((2, shape.window, 2), sign * 1e6, np.float32)
    windows[1, :, 1] *= -1
    proto = half(source_of(model))[1]
    expected = Reference(model).window(windows)
    found = gate.Session({"half": proto.SerializeToString()}).run("half", {"window": windows})["next"]
    assert deviation(found, expected, source_of(model).target_scale, ROW).within


def test_swapped_gates_leave_the_row_too() -> None:
    """Wide as it is, it tells a wrong graph from a rounded one."""
    shape = config("lstm")
    model = make_model(shape)
    source = source_of(model)
    weights = dict(source.weights)
    for part in ("weight", "bias"):
        one, other = f"layers.0.input_gate.{part}", f"layers.0.output_gate.{part}"
        weights[one], weights[other] = weights[other], weights[one]
    swapped = half(dataclasses.replace(source, weights=weights))[1]
    inputs = make_inputs(shape)
    found = gate.Session({"half": swapped.SerializeToString()}).run("half", inputs)["next"]
    assert not deviation(found, Reference(model).run("window", inputs)["next"], source.target_scale, ROW).within


def test_it_is_lowered_on_demand_alone() -> None:
    source = source_of(make_model(config()))
    assert "half" not in lower(source)
    asked = lower(source, "float16")
    assert {name for name in asked if name not in lower(source)} == {"half"}
    assert {name: graph.precision for name, (graph, _) in asked.items() if graph.precision != "float32"} == {
        "half": "float16"
    }
    assert next(iter(asked)) == "window", "what runs where nothing was timed"


def test_windows_that_are_not_unrolled_are_refused() -> None:
    shape = msgspec.structs.replace(config("rnn"), window=LONGEST_UNROLLED + 1)
    with pytest.raises(ExportError, match=r"precision is 'float16'.*; window is 257, it must be at most 256"):
        lower(source_of(make_model(shape)), "float16")
