"""Where the gates' biases start, and that this is a memory of so many steps."""

import math

import pytest
import torch

from training.cells import HAND_WRITTEN, GRUCell, GRUResetAfterCell, LSTMCell
from training.memory.chrono import set_time_scales

T, H = 100, 400


def test_an_lstm_keeps_for_up_to_t_steps_and_writes_as_little() -> None:
    torch.manual_seed(0)
    cell = LSTMCell(2, H)
    before = {name: value.clone() for name, value in cell.state_dict().items()}
    set_time_scales(cell, T)
    scales_H = cell.forget_gate.bias.exp()
    assert 1 <= scales_H.min() < 5
    assert T - 5 < scales_H.max() <= T - 1 + 1e-3
    assert scales_H.mean().item() == pytest.approx(T / 2, rel=0.1)
    assert torch.equal(cell.input_gate.bias, -cell.forget_gate.bias)
    untouched = set(before) - {"forget_gate.bias", "input_gate.bias"}
    assert all(torch.equal(cell.state_dict()[name], before[name]) for name in untouched)


@pytest.mark.parametrize("kind", [GRUCell, GRUResetAfterCell])
def test_a_gru_replaces_as_little_as_an_lstm_forgets(kind: type[GRUCell | GRUResetAfterCell]) -> None:
    torch.manual_seed(0)
    cell = kind(2, H)
    reset = cell.reset_gate.bias.clone()
    set_time_scales(cell, T)
    assert cell.update_gate.bias.max() <= 0
    assert cell.update_gate.bias.min().item() == pytest.approx(-math.log(T - 1), abs=0.05)
    assert torch.equal(cell.reset_gate.bias, reset)


@torch.no_grad()
def test_what_is_kept_halves_where_the_time_scale_says() -> None:
    """With time scale τ and nothing new, a memory falls by 1/e in about τ steps: for each kind its own gate."""
    for kind in ("lstm", "gru"):
        torch.manual_seed(0)
        cell = HAND_WRITTEN[kind](1, 50)
        for parameter in cell.parameters():
            parameter.zero_()
        set_time_scales(cell, T)
        x_BF = torch.zeros(1, 1)
        state = cell.initial_state(x_BF)
        state = state._replace(**{name: torch.ones_like(field) for name, field in state._asdict().items()})
        for _ in range(10):
            state = cell(x_BF, state)
        memory_H = state[-1][0]
        bias_H = cell.forget_gate.bias if isinstance(cell, LSTMCell) else -cell.get_parameter("update_gate.bias")
        assert torch.allclose(memory_H, torch.sigmoid(bias_H) ** 10, atol=1e-5), kind


def test_an_rnn_has_no_gate_to_set() -> None:
    cell = HAND_WRITTEN["rnn"](2, 8)
    before = {name: value.clone() for name, value in cell.state_dict().items()}
    set_time_scales(cell, T)
    assert all(torch.equal(value, before[name]) for name, value in cell.state_dict().items())
