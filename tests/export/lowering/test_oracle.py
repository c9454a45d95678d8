"""The graphs against numpy loops that share nothing with training/: cell and lowering cannot be wrong together."""

from itertools import combinations, product

import pytest

from tests.export import oracle
from tests.export.models import TRANSFORMS, assert_within_limit, config, lower_all, make_model, make_windows


@pytest.mark.parametrize(("cell", "transform", "num_layers"), list(product(oracle.CELLS, TRANSFORMS, (1, 2))))
def test_window_graph_computes_the_textbook(cell: str, transform: str, num_layers: int) -> None:
    shape = config(cell, transform=transform, window=12, num_features=2, num_layers=num_layers)
    lowered = lower_all(make_model(shape))
    windows = make_windows(shape)
    served = lowered.session.run("window", {"window": windows})["next"]
    assert_within_limit(served, oracle.predict(lowered.model, windows), lowered.source.target_scale)


@pytest.mark.parametrize(
    ("cell", "one", "other"),
    [
        *(("lstm", *pair) for pair in combinations(("input_gate", "forget_gate", "output_gate", "cell_gate"), 2)),
        *(("gru", *pair) for pair in combinations(("update_gate", "reset_gate", "hidden_candidate"), 2)),
    ],
)
def test_comparison_notices_swapped_gates(cell: str, one: str, other: str) -> None:
    """The oracle of a model with two gates exchanged is far from the graph of the model as it was."""
    shape = config(cell, window=12)
    model = make_model(shape)
    windows = make_windows(shape)
    lowered = lower_all(model)
    served = lowered.session.run("window", {"window": windows})["next"]
    weights = model.state_dict()
    for kind in ("weight", "bias"):
        first, second = (f"stack.layers.0.{gate}.{kind}" for gate in (one, other))
        weights[first], weights[second] = weights[second].clone(), weights[first].clone()
    model.load_state_dict(weights)
    with pytest.raises(AssertionError, match="times the limit"):
        assert_within_limit(served, oracle.predict(model, windows), lowered.source.target_scale)
