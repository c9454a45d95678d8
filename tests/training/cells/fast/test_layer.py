"""The fast path against the cells it stands for: every output, every gradient."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.training.cells.fast.stepped import ROUNDING, distance, gradients, make_cell, make_state, stepped, worst
from training.cells import HAND_WRITTEN, LSTMState
from training.cells.fast import final_state, layer, run_layer, tape

# What a wrong gate changes is of the order of the values, which are below 1.
WRONG = 1e-3
H = 4

kinds = pytest.mark.parametrize("kind", HAND_WRITTEN)


@kinds
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("from_zeros", [True, False])
@pytest.mark.parametrize("num_features", [1, 3])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_layer_is_its_cell_stepped(
    *, kind: str, steps: int, batch: int, num_features: int, from_zeros: bool, dtype: torch.dtype
) -> None:
    """Outputs, final state, and the gradients of every parameter, of x and of a given state."""
    cell = make_cell(kind, num_features, H, dtype)
    x_TBF = torch.randn(steps, batch, num_features, dtype=dtype)
    state = None if from_zeros else make_state(cell, x_TBF)
    assert worst(cell, x_TBF, state) <= ROUNDING[dtype]


@kinds
@settings(max_examples=20, deadline=None)
@given(
    steps=st.integers(1, 40),
    batch=st.integers(1, 300),
    num_features=st.integers(1, 4),
    hidden=st.integers(1, 9),
    from_zeros=st.booleans(),
)
def test_any_shape_will_do(
    *, kind: str, steps: int, batch: int, num_features: int, hidden: int, from_zeros: bool
) -> None:
    """Among them sequences that the way back takes in several blocks, the first in time a short one."""
    cell = make_cell(kind, num_features, hidden)
    x_TBF = torch.randn(steps, batch, num_features, dtype=torch.float64)
    assert worst(cell, x_TBF, None if from_zeros else make_state(cell, x_TBF)) <= ROUNDING[torch.float64] * steps


@kinds
@pytest.mark.parametrize("rows", [1, 4, 6, 100])
def test_the_size_of_a_block_does_not_show(kind: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "BLOCK_ROWS", rows)
    cell = make_cell(kind, 2, H)
    x_TBF = torch.randn(5, 2, 2, dtype=torch.float64)
    assert worst(cell, x_TBF, make_state(cell, x_TBF)) <= ROUNDING[torch.float64]


@kinds
@pytest.mark.parametrize("from_zeros", [True, False])
def test_gradients_are_those_of_finite_differences(kind: str, from_zeros: bool) -> None:
    """Without the cells: torch.autograd.gradcheck on the fast path alone."""
    cell = make_cell(kind, 2, 3)
    x_TBF = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    start = () if from_zeros else tuple(field.requires_grad_() for field in make_state(cell, x_TBF))
    make_state_of = type(cell.initial_state(x_TBF[0]))

    def run(x_TBF: Tensor, *fields: Tensor) -> tuple[Tensor, ...]:
        outputs_TBH, final = run_layer(cell, x_TBF, make_state_of(*fields[: len(start)]) if start else None)
        return outputs_TBH, *final

    assert torch.autograd.gradcheck(run, (x_TBF, *start, *cell.parameters()))


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (kind, one, other)
        for kind in HAND_WRITTEN
        for one, other in combinations(layer._KINDS[type(HAND_WRITTEN[kind](1, 1))][0].linears, 2)
        if "hidden_candidate_" not in one + other
    ],
)
def test_two_swapped_gates_are_noticed(kind: str, one: str, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above fails if the fast path takes two gates for each other."""
    cell = make_cell(kind, 2, H)
    kind_of_tape = layer._KINDS[type(cell)][0]
    swapped = {one: other, other: one}
    monkeypatch.setattr(kind_of_tape, "linears", [swapped.get(name, name) for name in kind_of_tape.linears])
    assert worst(cell, torch.randn(5, 3, 2, dtype=torch.float64), None) > WRONG


@kinds
@pytest.mark.parametrize("from_zeros", [True, False])
def test_the_final_state_alone_is_the_same(kind: str, from_zeros: bool) -> None:
    """Bit for bit, gradients too: the outputs that nobody uses change no sum."""
    cell = make_cell(kind, 2, H)
    x_TBF = torch.randn(5, 3, 2, dtype=torch.float64, requires_grad=True)
    state = None if from_zeros else make_state(cell, x_TBF)
    sides = []
    for final in (final_state(cell, x_TBF, state), run_layer(cell, x_TBF, state)[1]):
        loss = torch.stack([field.square().sum() for field in final]).sum()
        sides.append([*final, *torch.autograd.grad(loss, (*cell.parameters(), x_TBF))])
    assert all(torch.equal(one, other) for one, other in zip(*sides, strict=True))


@kinds
@pytest.mark.parametrize("from_zeros", [True, False])
def test_without_gradients_the_numbers_are_the_same(kind: str, from_zeros: bool) -> None:
    """Where every step writes over the one before."""
    cell = make_cell(kind, 2, H)
    x_TBF = torch.randn(5, 3, 2, dtype=torch.float64)
    state = None if from_zeros else make_state(cell, x_TBF)
    kept, kept_state = run_layer(cell, x_TBF, state)
    with torch.no_grad():
        outputs_TBH, final = run_layer(cell, x_TBF, state)
        alone = final_state(cell, x_TBF, state)
    assert torch.equal(outputs_TBH, kept)
    assert not outputs_TBH.requires_grad
    assert all(map(torch.equal, final, kept_state))
    assert all(map(torch.equal, alone, kept_state))


@kinds
def test_layers_stack_with_a_residual(kind: str) -> None:
    """Two layers, the second on the first's outputs, with its input added to what it gives."""
    bottom, top = make_cell(kind, 2, H), make_cell(kind, H, H)
    x_TBF = torch.randn(5, 3, 2, dtype=torch.float64, requires_grad=True)
    parameters = (*bottom.parameters(), *top.parameters(), x_TBF)
    sides = []
    for run in (run_layer, stepped):
        low_TBH, _ = run(bottom, x_TBF)
        high_TBH, _ = run(top, low_TBH)
        out_TBH = high_TBH + low_TBH
        sides.append([out_TBH, *torch.autograd.grad((out_TBH[-1] ** 2).sum(), parameters)])
    assert max(distance(one, other) for one, other in zip(*sides, strict=True)) <= ROUNDING[torch.float64]


@kinds
def test_no_gradient_is_computed_for_an_input_that_wants_none(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    tape_of_kind = layer._KINDS[type(make_cell(kind, 2, H))][0]
    backward = tape_of_kind.backward

    def spy(self: tape.Tape, *given: object, to_x: bool) -> tape.Gradients:
        asked.append(to_x)
        result = backward(self, *given, to_x=to_x)  # type: ignore[arg-type]
        assert (result.x_TBF is not None) == to_x
        return result

    monkeypatch.setattr(tape_of_kind, "backward", spy)
    cell = make_cell(kind, 2, H)
    for wants in (False, True):
        x_TBF = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=wants)
        final_state(cell, x_TBF).h.sum().backward()  # type: ignore[no-untyped-call]
        assert (x_TBF.grad is not None) == wants
    assert asked == [False, True]


@kinds
def test_a_batch_first_window_needs_no_copy(kind: str) -> None:
    cell = make_cell(kind, 3, H)
    x_BTF = torch.randn(2, 5, 3, dtype=torch.float64)
    outputs_TBH, _ = run_layer(cell, x_BTF.transpose(0, 1))
    assert torch.equal(outputs_TBH, run_layer(cell, x_BTF.transpose(0, 1).contiguous())[0])


def test_differentiating_twice_is_refused() -> None:
    cell = make_cell("gru", 2, H)
    x_TBF = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(final_state(cell, x_TBF).h.sum(), x_TBF, create_graph=True)


@kinds
def test_autocast_rounds_the_products_and_nothing_else(kind: str) -> None:
    """Near the float32 numbers, not equal to them, and in float32: outputs, state and gradients."""
    cell = make_cell(kind, 2, H, torch.float32)
    x_TBF = torch.randn(20, 3, 2, requires_grad=True)
    sides = []
    for enabled in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            outputs_TBH, final = run_layer(cell, x_TBF)
        assert {tensor.dtype for tensor in (outputs_TBH, *final)} == {torch.float32}
        sides.append([outputs_TBH, *final, *gradients(cell, outputs_TBH, final, [x_TBF])])
    differences = [distance(one, other) for one, other in zip(*sides, strict=True)]
    # bfloat16 rounds to 1 part in 256; twenty steps and their gradients add several such errors.
    assert 1e-4 < max(differences) < 0.1


def test_autocast_leaves_doubles_alone() -> None:
    cell, x_TBF = make_cell("lstm", 2, H), torch.randn(5, 3, 2, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(run_layer(cell, x_TBF)[0], run_layer(cell, x_TBF)[0])
        rounded = run_layer(cell, x_TBF)[0]
    assert torch.equal(rounded, run_layer(cell, x_TBF)[0])


@pytest.mark.parametrize(
    ("x_TBF", "message"),
    [
        (torch.zeros(5, 2, dtype=torch.float64), r"x is of shape \(5, 2\); it must be \[T, B, F\] with at least one"),
        (torch.zeros(0, 3, 2, dtype=torch.float64), r"x is of shape \(0, 3, 2\)"),
        (torch.zeros(5, 3, 2), "x is torch.float32; it must be torch.float64 as the cell's weights are"),
    ],
)
def test_an_input_that_cannot_be_the_cells_is_refused(x_TBF: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_layer(make_cell("lstm", 2, H), x_TBF)


def test_an_empty_batch_gives_an_empty_answer() -> None:
    outputs_TBH, final = run_layer(make_cell("lstm", 2, H), torch.zeros(5, 0, 2, dtype=torch.float64))
    assert outputs_TBH.shape == (5, 0, H)
    assert isinstance(final, LSTMState)
    assert final.c.shape == (0, H)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
@kinds
def test_a_gpu_gives_the_same(kind: str) -> None:
    cell = make_cell(kind, 2, H).cuda()
    x_TBF = torch.randn(5, 3, 2, dtype=torch.float64, device="cuda")
    assert worst(cell, x_TBF, make_state(cell, x_TBF)) <= ROUNDING[torch.float64]
