"""Long windows: a Scan over chunks, for every cell and everything that a model may have around it."""

from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from export import gate
from export.build import describe, lower
from export.lowering.chunked import CHUNK, SHORTEST_CHUNKED, chunked
from export.lowering.linear_skip import WIDEST_MATRIX
from export.lowering.source import source_of
from export.lowering.unrolled import LONGEST_UNROLLED
from tests.export.models import KINDS, TRANSFORMS, config, make_inputs, make_model
from training.model import ModelConfig


def _assert_passes(shape: ModelConfig, *, bound: float = 0.3) -> None:
    model = make_model(shape, bound=bound)
    source = source_of(model)
    graph, proto = chunked(source)
    manifest = describe(model, source, {"window": graph}, "demo", [f"feature_{k}" for k in range(shape.num_features)])
    cases = gate.golden_cases(model, make_inputs(shape), ["window"])
    gate.check(model, manifest, {"window": proto.SerializeToString()}, [cases])


@pytest.mark.parametrize("window", [CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 5])
@pytest.mark.parametrize("cell", KINDS)
def test_whatever_is_left_of_the_chunks(cell: str, window: int) -> None:
    _assert_passes(config(cell, window=window))


@pytest.mark.parametrize(
    "options",
    [
        {"num_layers": 2, "residual": True, "transition_depth": 2},
        {"num_features": 3, "calendar": ("day",)},
        {"intervals": "normalized", "levels": (0.5, 0.9), "num_layers": 2},
        {"linear_skip": True, "horizon": 3},
        {"linear_skip": True, "horizon": 3, "num_features": 2, "intervals": "normalized", "levels": (0.5, 0.9)},
        {"scaling": "window", "intervals": "quantile", "levels": (0.9,)},
    ],
    ids="-".join,
)
def test_all_that_a_model_may_have(options: dict[str, Any]) -> None:
    _assert_passes(msgspec.structs.replace(config("gru", window=2 * CHUNK), **options))


def test_a_linear_skip_wider_than_its_matrix_may_be() -> None:
    """Beside normalized intervals, which need its sums after every value."""
    shape = config("rnn", window=WIDEST_MATRIX + 1, num_features=2)
    shape = msgspec.structs.replace(shape, linear_skip=True, horizon=2, intervals="normalized", levels=(0.9,))
    _assert_passes(shape)
    nodes = chunked(source_of(make_model(shape)))[1].graph.node
    assert "Conv" in {node.op_type for node in nodes}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("cell", KINDS)
def test_every_cell_with_every_transform(cell: str, transform: str) -> None:
    _assert_passes(config(cell, transform=transform, window=CHUNK + 7))


def _num_nodes(graph: onnx.GraphProto) -> int:
    bodies = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return len(graph.node) + sum(map(_num_nodes, bodies))


def test_nodes_and_bytes_do_not_grow_with_the_window() -> None:
    protos = [chunked(source_of(make_model(config(window=CHUNK * count))))[1] for count in (2, 8)]
    assert _num_nodes(protos[0].graph) == _num_nodes(protos[1].graph)
    sizes = [len(proto.SerializeToString()) for proto in protos]
    assert abs(sizes[1] - sizes[0]) < 64


def test_windows_are_chunked_where_unrolling_them_would_take_long_to_load() -> None:
    for window, expected in (
        (SHORTEST_CHUNKED - 1, {"window": "unrolled"}),
        (SHORTEST_CHUNKED, {"window": "unrolled", "chunked": "chunked"}),
        (LONGEST_UNROLLED, {"window": "unrolled", "chunked": "chunked"}),
        (LONGEST_UNROLLED + 1, {"window": "chunked"}),
    ):
        lowered = lower(source_of(make_model(config("rnn", window=window))))
        graphs = {name: graph for name, (graph, _) in lowered.items() if name not in {"columns", "fused", "step"}}
        assert {name: graph.lowering for name, graph in graphs.items()} == expected
        assert graphs["window"].file == "window.onnx"
        assert len({graph.file for graph in graphs.values()}) == len(graphs)


def test_weights_are_stored_once() -> None:
    source = source_of(make_model(config(window=2 * CHUNK)))
    proto = chunked(source)[1]
    names = [initializer.name for initializer in proto.graph.initializer]
    assert len(names) == len(set(names))
    stored = sum(onnx.numpy_helper.to_array(each).nbytes for each in proto.graph.initializer)
    assert stored <= 1.5 * sum(np.asarray(weight).nbytes for weight in source.weights.values())
