"""What every graph keeps to, whatever it computes."""

from itertools import chain, pairwise, product

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from export.build import lower, roll
from export.evaluate import Reference
from export.gate import Session
from export.lowering.columns import LANES
from export.lowering.fused import LONGEST_PRIMED
from export.lowering.source import source_of
from export.lowering.unrolled import LONGEST_UNROLLED
from tests.export.models import KINDS, TRANSFORMS, config, make_model
from training.model import ModelConfig

EVERY = list(product(KINDS, TRANSFORMS))


def _graphs(shape: ModelConfig) -> dict[str, onnx.ModelProto]:
    return {name: proto for name, (_, proto) in lower(source_of(make_model(shape))).items()}


def _initializer_bytes(proto: onnx.ModelProto) -> int:
    return sum(numpy_helper.to_array(initializer).nbytes for initializer in proto.graph.initializer)


@pytest.mark.parametrize(("cell", "transform"), EVERY)
def test_versions_and_producer_are_set(cell: str, transform: str) -> None:
    for proto in _graphs(config(cell, transform=transform)).values():
        assert [(imported.domain, imported.version) for imported in proto.opset_import] == [("", 20)]
        assert proto.ir_version == 9
        assert proto.producer_name == "nextvalue"


@pytest.mark.parametrize(("cell", "transform"), EVERY)
def test_no_recurrent_or_control_flow_node_but_in_the_fused_graph(cell: str, transform: str) -> None:
    for name, proto in _graphs(config(cell, transform=transform)).items():
        if name in {"fused", "primed"}:
            continue
        kinds = {node.op_type for node in proto.graph.node}
        assert not kinds & {"RNN", "GRU", "LSTM", "Loop", "Scan", "If", "SequenceMap"}
        assert {node.domain for node in proto.graph.node} == {""}
        assert not [a for node in proto.graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]


@pytest.mark.parametrize(("cell", "transform"), EVERY)
def test_checker_passes(cell: str, transform: str) -> None:
    for proto in _graphs(config(cell, transform=transform, num_layers=2, num_features=3)).values():
        onnx.checker.check_model(onnx.load_from_string(proto.SerializeToString()), full_check=True)


@pytest.mark.parametrize(("cell", "transform"), EVERY)
def test_nodes_grow_by_the_same_number_for_each_value(cell: str, transform: str) -> None:
    counts = [len(_graphs(config(cell, transform=transform, window=t))["window"].graph.node) for t in range(2, 8)]
    growth = {after - before for before, after in pairwise(counts)}
    assert len(growth) == 1
    assert growth.pop() > 0


@pytest.mark.parametrize(("cell", "transform"), EVERY)
def test_initializers_do_not_grow_with_the_window(cell: str, transform: str) -> None:
    sizes = {_initializer_bytes(_graphs(config(cell, transform=transform, window=t))["window"]) for t in (4, 5, 48)}
    assert len(sizes) == 1


@pytest.mark.parametrize(("cell", "transform"), EVERY)
def test_weights_are_stored_once(cell: str, transform: str) -> None:
    model = make_model(config(cell, transform=transform, num_layers=2, window=9))
    weights = source_of(model).weights
    for name, (_, proto) in lower(source_of(model)).items():
        names = [initializer.name for initializer in proto.graph.initializer]
        assert len(names) == len(set(names)), name
        if name in {"window", "columns"}:
            layers = {weight.rpartition(".")[0] for weight in weights if weight.startswith("layers.")}
            assert {f"{layer}.weight_and_bias" for layer in layers} <= set(names), name
        elif name == "step":
            assert {weight for weight in weights if weight.startswith("layers.")} <= set(names), name
        # The columns that the first step reads are stored once more; of an RNN's one gate they are the node's W.
        own = [each for each in proto.graph.initializer if not each.name.endswith(".input")]
        contents = [each.raw_data for each in own if each.name.startswith(("layers.", "head."))]
        large = [content for content in contents if len(content) > 4 * 8]
        assert len(large) == len(set(large)), name


def test_only_what_can_be_stepped_has_a_step_graph() -> None:
    windows = {"window", "columns", "fused", "primed"}
    assert set(_graphs(config(transform="standardize"))) == {*windows, "step"}
    assert set(_graphs(config(transform="difference"))) == {*windows, "step"}
    assert set(_graphs(config(transform="last-value"))) == windows


@pytest.mark.parametrize(
    ("cell", "op_type"), list(zip(KINDS, ("RNN", "LSTM", "GRU", "GRU", "LSTM", "GRU"), strict=True))
)
@pytest.mark.parametrize("graph", ["fused", "primed"])
def test_fused_graphs_have_a_node_for_each_layer_however_long_the_window(graph: str, cell: str, op_type: str) -> None:
    counts = set()
    for window in (2, LONGEST_PRIMED):
        nodes = _graphs(config(cell, num_layers=2, window=window))[graph].graph.node
        assert [node.op_type for node in nodes if node.op_type in {"RNN", "LSTM", "GRU"}] == [op_type] * 2
        counts.add(len(nodes))
    assert len(counts) == 1


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize(("cell", "state"), [("lstm", 2), ("gru", 1), ("rnn", 1)])
def test_recurrent_nodes_write_what_is_read(cell: str, state: int, num_layers: int) -> None:
    """An output is a buffer for every run: a window has no use for the last c, values ahead go on from it."""
    shape = config(cell, num_layers=num_layers)
    rolled, _ = roll(source_of(make_model(shape)), 3)
    found: dict[str, list[int]] = {}
    for name, proto in chain(_graphs(shape).items(), ((name, proto) for name, (_, proto) in rolled.items())):
        read = {value for node in proto.graph.node for value in node.input} | {v.name for v in proto.graph.output}
        for node in proto.graph.node:
            if node.op_type in {"RNN", "GRU", "LSTM"}:
                written = [value for value in node.output if value]
                assert set(written) <= read, name
                found.setdefault(name, []).append(len(written))
    assert found["fused"] == [1] * num_layers
    # A lower layer also hands all its outputs up.
    assert max(found["carry"]) == state + num_layers - 1


def test_windows_without_much_of_a_first_step_are_not_primed() -> None:
    for window in (1, LONGEST_PRIMED + 1):
        assert set(_graphs(config(window=window))) == {"window", "columns", "fused", "step"}


def test_deep_steps_have_no_fused_graph() -> None:
    shape = msgspec.structs.replace(config("gru"), transition_depth=2)
    assert set(_graphs(shape)) == {"window", "columns", "step"}


def test_windows_lie_in_columns_where_rows_leave_lanes_empty() -> None:
    for hidden_size, window, expected in ((LANES, 5, False), (LANES + 1, 5, True), (50, 5, True), (128, 5, False)):
        assert ("columns" in _graphs(config(hidden_size=hidden_size, window=window))) is expected
    assert "columns" in _graphs(config("rnn", window=LONGEST_UNROLLED))
    assert "columns" not in _graphs(config("rnn", window=LONGEST_UNROLLED + 1))


@pytest.mark.parametrize("cell", KINDS)
def test_a_scaled_value_beyond_float32_does_not_reach_the_zero_state(cell: str) -> None:
    """0 times infinity would make the first state NaN; torch, which starts from real zeros, stays finite."""
    shape = config(cell, transform="standardize")
    model = make_model(shape)
    model.transform.scale.fill_(1e-3)
    windows = np.full((1, shape.window, 1), 3e38, np.float32)
    expected = Reference(model, dtype=torch.float32).window(windows)
    assert np.isfinite(expected).all()
    for name in ("window", "columns", "fused", "primed"):
        session = Session({name: lower(source_of(model))[name][1].SerializeToString()})
        np.testing.assert_allclose(session.run(name, {"window": windows})["next"], expected, rtol=1e-5)
