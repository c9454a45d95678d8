"""The reference answers for every graph, in float64, whatever the model is doing meanwhile."""

import numpy as np
import pytest
import torch

from export.evaluate import Reference
from tests.export import oracle
from tests.export.models import KINDS, config, make_model, make_windows


@pytest.mark.parametrize("cell", list(oracle.CELLS))
def test_window_is_the_textbook_s_to_float64(cell: str) -> None:
    model = make_model(config(cell, num_layers=2, num_features=2))
    windows = make_windows(model.config)
    np.testing.assert_allclose(Reference(model).window(windows), oracle.predict(model, windows), rtol=0, atol=1e-10)


@pytest.mark.parametrize("cell", KINDS)
def test_step_answers_by_tensor_name(cell: str) -> None:
    model = make_model(config(cell, num_layers=2))
    windows = make_windows(model.config, 7)
    reference = Reference(model)
    inputs = reference.step_inputs({"window": windows})
    outputs = reference.run("step", inputs)
    assert {name.removeprefix("initial_") for name in inputs if name != "value"} == {
        name.removeprefix("final_") for name in outputs if name != "next"
    }
    assert {array.dtype for array in inputs.values()} == {np.dtype(np.float32)}
    assert {array.dtype for array in outputs.values()} == {np.dtype(np.float64)}
    # The only rounding on the way: the state, to float32.
    np.testing.assert_allclose(outputs["next"], reference.window(windows), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(outputs["final_last"], windows[:, -1])
    np.testing.assert_array_equal(outputs["final_seen"], np.ones((7, 1)))


def test_first_step_starts_from_nothing_seen() -> None:
    model = make_model(config(window=1))
    inputs = Reference(model).step_inputs({"window": make_windows(model.config, 3)})
    assert all(not array.any() for name, array in inputs.items() if name != "value")


def test_model_is_left_as_it_was_and_not_followed() -> None:
    model = make_model(config())
    windows = make_windows(model.config)
    reference = Reference(model)
    before = reference.window(windows)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    with torch.no_grad():
        model.head.point.bias.add_(100.0)
    np.testing.assert_array_equal(reference.window(windows), before)


def test_float32_reference_is_close_but_not_the_same() -> None:
    model = make_model(config(window=20))
    windows = make_windows(model.config)
    single = Reference(model, dtype=torch.float32).window(windows)
    double = Reference(model).window(windows)
    assert single.dtype == np.float64
    assert 0 < np.abs(single - double).max() < 1e-4


def test_step_of_what_cannot_be_stepped_is_refused() -> None:
    model = make_model(config(transform="last-value"))
    with pytest.raises(ValueError, match="the model cannot be stepped"):
        Reference(model).run("step", {"value": np.zeros((1, 1), np.float32)})
