"""What a trace says is what the model does: the prediction, the gates on the way, the gradient on the way back."""

import numpy as np
import pytest
import torch

from tests.training.explain.samples import F, H, T, model_of, window_for
from training.cells import CELL_KINDS, GRUResetAfterCell, LSTMCell, LSTMState, State
from training.explain.gates import gates
from training.explain.trace import Trace, trace
from training.model import RecurrentModel
from training.stack import CellStack

# The gradient once more by other sums, in float32, relative.
ROUNDING = 1e-4


def say(model: RecurrentModel) -> torch.Tensor:
    """The model's own prediction for the window, from the values alone."""
    with torch.no_grad():
        return model.eval().predict(torch.from_numpy(window_for(model).windows).float()).next


@pytest.mark.parametrize("cell", CELL_KINDS)
def test_the_prediction_is_the_models_own(cell: str) -> None:
    model = model_of(cell, num_layers=2, horizon=3)
    found = trace(model, window_for(model))
    assert found.prediction.shape == found.truth.shape == (3,)
    assert found.prediction == pytest.approx(say(model)[0].numpy(), abs=1e-5)
    assert found.window.shape == found.inputs.shape == (T, F)
    assert [one.label for one in found.cells] == ["layer 1 of 2", "layer 2 of 2"]
    assert all(gate.shape == (T, H) for one in found.cells for gate in one.gates.values())
    assert [one.h.shape for one in found.gradients] == [(T,), (T,)]


def loss_after(model: RecurrentModel, states: list[State], t: int) -> torch.Tensor:
    """The loss as a function of the states after step t, by stepping on through the rest of the window."""
    batch = window_for(model)
    x_TF = model.transform.encode(torch.from_numpy(batch.windows).float())[0][0]
    top = states[-1].h
    for x_F in x_TF[t + 1 :]:
        top, states = model.stack.step(x_F[None], states)
    target = model.transform.encode_target(torch.from_numpy(batch.targets).float(), torch.zeros(1, 1))
    output_BK: torch.Tensor = model.head(top).point
    return (output_BK - target).square().mean()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru-reset-after"])
def test_gradients_are_those_of_the_loss_after_each_step(cell: str) -> None:
    """Each state by itself: cut out of the past, made a variable, and the rest of the window run from it."""
    model = model_of(cell).eval()
    found = trace(model, window_for(model))
    (gradients,) = found.gradients
    assert (gradients.c is not None) == (cell == "lstm")
    assert isinstance(model.stack, CellStack)
    x_TF = torch.from_numpy(found.inputs).float()
    after = model.stack.initial_state(x_TF[:1])
    for t in range(T):
        before = after
        with torch.no_grad():
            _, after = model.stack.step(x_TF[t : t + 1], before)
        state = type(after[0])(*(part.clone().requires_grad_() for part in after[0]))
        loss = loss_after(model, [state], t)
        assert loss.item() == pytest.approx(found.loss, rel=ROUNDING)
        loss.backward()  # type: ignore[no-untyped-call]
        assert state.h.grad is not None
        assert gradients.h[t] == pytest.approx(state.h.grad.norm().item(), rel=ROUNDING)
        if gradients.c is not None and isinstance(state, LSTMState):
            # Cut out, c is read by the next step alone; in the window it also makes h = o * tanh(c).
            o = gates(model.stack.cells()[0][0], x_TF[t : t + 1], before[0])["output gate"]
            d_c = state.h.grad * o * (1 - torch.tanh(state.c) ** 2)
            d_c = d_c if state.c.grad is None else d_c + state.c.grad
            assert gradients.c[t] == pytest.approx(d_c.norm().item(), rel=ROUNDING)


def remembering(bias: float) -> Trace:
    """An LSTM whose forget gates are set by their bias alone, and that writes what it reads."""
    model = model_of("lstm", window=40)
    assert isinstance(model.stack, CellStack)
    cell = model.stack.cells()[0][0]
    assert isinstance(cell, LSTMCell)
    with torch.no_grad():
        cell.forget_gate.weight.zero_()
        cell.forget_gate.bias.fill_(bias)
        for gate in (cell.input_gate, cell.output_gate, cell.cell_gate):
            gate.weight[:, F:].zero_()
    return trace(model, window_for(model))


def test_an_open_forget_gate_carries_the_gradient_and_a_shut_one_does_not() -> None:
    """With no way through h, each step back takes the forget gate's share of ∂loss/∂c."""
    for bias in (6.0, -2.0):
        found = remembering(bias)
        kept = 1 / (1 + np.exp(-bias))
        assert found.cells[0].gates["forget gate"] == pytest.approx(kept, abs=1e-6)
        c = found.gradients[0].c
        assert c is not None
        assert c[:-1] / c[1:] == pytest.approx(kept, rel=1e-4)


@pytest.mark.parametrize(("cell", "kind"), [("nn.lstm", LSTMCell), ("nn.gru", GRUResetAfterCell)])
def test_torchs_layers_are_explained_as_the_cells_that_equal_them(cell: str, kind: type) -> None:
    model = model_of(cell, num_layers=2)
    assert [type(one.cell) for one in trace(model, window_for(model)).cells] == [kind, kind]


def test_deep_steps_and_residual_layers_are_traced_cell_by_cell() -> None:
    model = model_of("gru", num_layers=2, transition_depth=2, residual=True, output_depth=2)
    found = trace(model, window_for(model))
    assert found.prediction == pytest.approx(say(model)[0].numpy(), abs=1e-5)
    assert [one.label for one in found.cells] == [
        "layer 1 of 2, cell 1 of 2",
        "layer 1 of 2, cell 2 of 2",
        "layer 2 of 2, cell 1 of 2",
        "layer 2 of 2, cell 2 of 2",
    ]
    assert [one.label for one in found.gradients] == ["layer 1 of 2", "layer 2 of 2"]
    assert (found.gradients[1].h > 0).all()


def test_calendar_and_series_reach_the_cells() -> None:
    model = model_of("lstm", calendar=("day", "year"), scaling="series", num_series=2)
    found = trace(model, window_for(model))
    assert found.inputs.shape == (T, F + 6 + 2)
    hours = np.arange(T) + (1_400_000_400 // 3600) % 24
    assert found.inputs[:, F] == pytest.approx(-np.sin(2 * np.pi * hours / 24), abs=1e-2)


def test_intervals_come_along() -> None:
    model = model_of("lstm", intervals="conformal", levels=(0.5, 0.9), horizon=3)
    found = trace(model, window_for(model))
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower.shape == found.upper.shape == (3, 2)
    assert (found.lower < found.upper).all()


def test_the_model_stays_as_it_was() -> None:
    model = model_of("lstm")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, window_for(model))
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
