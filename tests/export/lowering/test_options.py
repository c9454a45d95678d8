"""Every combination of options through the export gate, and against a textbook that shares no code with ours."""

import itertools
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from export import gate
from export.artifact import golden
from export.build import describe
from export.lowering.columns import LANES
from tests.export import oracle
from tests.export.models import KINDS, TRANSFORMS, lower_all, make_inputs, make_model
from training.model import ModelConfig

DEEP = ("rnn", "lstm", "gru", "gru-reset-after")
CALENDARS: tuple[tuple[str, ...], ...] = ((), ("day",), ("week", "day"), ("day", "week", "year"))


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Any model that the options can ask for, small enough to check by the hundred."""
    cell = draw(st.sampled_from(KINDS))
    num_layers = draw(st.integers(1, 3))
    scaling = draw(st.sampled_from(("fit", "window", "series")))
    transform = draw(st.sampled_from(TRANSFORMS))
    is_steppable = scaling != "window" and transform != "last-value"
    intervals = draw(st.sampled_from(("none", "conformal", "quantile", *["normalized"] * is_steppable)))
    levels = draw(st.sampled_from(((0.9,), (0.5, 0.9), (0.1, 0.8, 0.95)))) if intervals != "none" else ()
    return ModelConfig(
        cell=cell,
        window=draw(st.integers(2 if scaling == "window" or intervals == "normalized" else 1, 4)),
        num_features=draw(st.integers(1, 3)),
        hidden_size=draw(st.integers(1, 6) | st.just(LANES)),
        num_layers=num_layers,
        transform=transform,
        transition_depth=draw(st.integers(1, 3)) if cell in DEEP else 1,
        residual=draw(st.booleans()) if cell in DEEP and num_layers > 1 else False,
        output_depth=draw(st.integers(1, 3)),
        horizon=draw(st.integers(1, 3)),
        calendar=draw(st.sampled_from(CALENDARS)),
        scaling=scaling,
        num_series=draw(st.integers(1, 4)) if scaling == "series" else 0,
        intervals=intervals,
        levels=levels,
        linear_skip=draw(st.booleans()),
    )


def _assert_passes(shape: ModelConfig) -> None:
    """The export gate on golden and random inputs, and the window graph against the textbook."""
    model = make_model(shape)
    lowered = lower_all(model)
    step = set() if model.why_not_steppable else {"step"}
    windows = {"window", "columns"} if shape.hidden_size % LANES else {"window"}
    if shape.transition_depth == 1:
        windows |= {"fused", "primed"} if shape.window > 1 else {"fused"}
    assert set(lowered.graphs) == windows | step
    features = [f"feature_{k}" for k in range(shape.num_features)]
    manifest = describe(model, lowered.source, dict(lowered.graphs), "demo", features)
    inputs = make_inputs(shape)
    random = gate.random_inputs(model, inputs, np.random.default_rng(1), 64)
    cases = [gate.golden_cases(model, each, list(lowered.graphs)) for each in (inputs, random)]
    gate.check(model, manifest, lowered.files, cases)
    for each in (inputs, random):
        expected = oracle.predict_all(model, each)
        for graph in windows:
            served = lowered.session.run(graph, each)
            assert set(served) == set(expected) == {tensor.name for tensor in lowered.graphs[graph].outputs}
            for tensor in lowered.graphs[graph].outputs:
                found = golden.compare(served[tensor.name], expected, tensor, manifest, graph)
                assert found.within, f"{graph}, {tensor.name}: {found.share_of_limit:.3g} times the limit"


FAR_FROM_ZERO = ModelConfig(
    cell="lstm",
    window=4,
    num_features=3,
    hidden_size=3,
    num_layers=1,
    transform="value-and-difference",
    horizon=2,
    calendar=("week", "day"),
    scaling="series",
    num_series=3,
    linear_skip=True,
)


# Sums over the whole window of values far from zero, where rounding shows first.
@example(FAR_FROM_ZERO)
@example(
    msgspec.structs.replace(
        FAR_FROM_ZERO,
        cell="gru-reset-after",
        window=3,
        output_depth=2,
        horizon=3,
        calendar=("day", "week", "year"),
        num_series=1,
        intervals="conformal",
        levels=(0.9,),
    )
)
@example(msgspec.structs.replace(FAR_FROM_ZERO, window=12, intervals="normalized", levels=(0.5, 0.9)))
@settings(max_examples=60, deadline=None)
@given(configs())
def test_any_combination_passes_the_gate_and_is_the_textbook(shape: ModelConfig) -> None:
    _assert_passes(shape)


PLAIN = ModelConfig(
    cell="gru", window=3, num_features=2, hidden_size=4, num_layers=2, transform="difference", transition_depth=1
)
CHOICES: dict[str, list[dict[str, Any]]] = {
    "cell": [{"cell": cell} for cell in DEEP],
    "transform": [{"transform": transform} for transform in TRANSFORMS],
    "transition": [{"transition_depth": depth} for depth in (1, 2)],
    "residual": [{"residual": residual} for residual in (False, True)],
    "linear": [{"linear_skip": linear} for linear in (False, True)],
    "output": [{"output_depth": depth} for depth in (1, 2)],
    "horizon": [{"horizon": horizon} for horizon in (1, 3)],
    "calendar": [{"calendar": names} for names in ((), ("day", "week"))],
    "scaling": [{"scaling": "fit"}, {"scaling": "window"}, {"scaling": "series", "num_series": 3}],
    "intervals": [
        {"intervals": "none"},
        {"intervals": "conformal", "levels": (0.9,)},
        {"intervals": "quantile", "levels": (0.5, 0.9)},
        {"intervals": "normalized", "levels": (0.5, 0.9)},
    ],
}


@pytest.mark.parametrize("pair", list(itertools.combinations(CHOICES, 2)), ids="-".join)
def test_every_pair_of_choices_passes(pair: tuple[str, str]) -> None:
    """What hypothesis may not draw: each choice of an option beside each choice of every other."""
    for one, other in itertools.product(*(CHOICES[name] for name in pair)):
        both = one | other
        needs_window = both.get("scaling") == "window" or both.get("transform") == "last-value"
        if not (both.get("intervals") == "normalized" and needs_window):
            _assert_passes(msgspec.structs.replace(PLAIN, **both))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"residual": True, "num_layers": 1}, "residual connects layers and num_layers is 1; it must be at least 2"),
        ({"residual": True, "cell": "nn.gru"}, "cell is 'nn.gru', which is torch's own"),
        ({"transition_depth": 2, "cell": "nn.lstm"}, "cell is 'nn.lstm', which is torch's own"),
        ({"transition_depth": 0}, "transition_depth is 0; it must be at least 1"),
        ({"output_depth": 0}, "output_depth is 0; it must be at least 1"),
        ({"horizon": 0}, "horizon is 0; it must be at least 1"),
        ({"calendar": ("month",)}, r"calendar is \['month'\]; it takes each of day, week, year once"),
        ({"calendar": ("day", "day")}, "it takes each of day, week, year once"),
        ({"scaling": "row"}, "scaling is 'row'; it must be one of fit, window, series"),
        ({"scaling": "window", "window": 1}, "window is 1; scaling 'window' needs at least 2 values"),
        ({"scaling": "series"}, "num_series is 0; scaling 'series' needs at least 1"),
        ({"num_series": 2}, "num_series is 2; scaling 'series' needs at least 1 and the others none"),
        ({"intervals": "bayes"}, "intervals is 'bayes'; it must be one of none, conformal, normalized, quantile"),
        (
            {"intervals": "normalized", "levels": (0.9,), "window": 1},
            "intervals 'normalized' need 2 values",
        ),
        ({"intervals": "normalized", "levels": (0.9,), "scaling": "window"}, "scaling 'window' needs the whole window"),
        ({"intervals": "normalized", "levels": (0.9,), "transform": "last-value"}, "transform 'last-value' needs the"),
        ({"intervals": "conformal"}, r"levels are \[\]; intervals 'conformal' take at least one"),
        ({"levels": (0.9,)}, r"levels are \[0.9\]; intervals 'none' take none"),
        ({"intervals": "quantile", "levels": (0.9, 0.5)}, "they must grow and lie between 0 and 1"),
        ({"intervals": "quantile", "levels": (0.0, 0.5)}, "they must grow and lie between 0 and 1"),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(PLAIN, **changes)
