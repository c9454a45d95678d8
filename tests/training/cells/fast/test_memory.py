"""A cell's memory goes from one training step to the next; its gradients go where any module's go."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, distributed, nn

from tests.training.cells.fast.stepped import ROUNDING, distance, make_cell, make_state, stepped, worst
from training.cells import HAND_WRITTEN, Cell, State
from training.cells.fast import final_state, layer, run_layer

H = 4
DOUBLE = ROUNDING[torch.float64]

kinds = pytest.mark.parametrize("kind", HAND_WRITTEN)


@kinds
def test_a_step_leaves_nothing_in_the_next(kind: str) -> None:
    """From a given state to zeros and back, and over a change of shape."""
    cell = make_cell(kind, 2, H)
    for batch, from_zeros in ((3, False), (3, True), (3, False), (2, True), (3, True)):
        x_TBF = torch.randn(5, batch, 2, dtype=torch.float64)
        assert worst(cell, x_TBF, None if from_zeros else make_state(cell, x_TBF)) <= DOUBLE


@kinds
def test_what_was_given_out_is_not_written_over(kind: str) -> None:
    cell = make_cell(kind, 2, H)
    x_TBF = torch.randn(5, 3, 2, dtype=torch.float64)
    outputs_TBH, final = run_layer(cell, x_TBF)
    outputs_TBH.sum().backward()  # type: ignore[no-untyped-call]
    given_out = [outputs_TBH, *final, *(p.grad for p in cell.parameters() if p.grad is not None)]
    before = [tensor.detach().clone() for tensor in given_out]
    assert len(before) == 1 + len(final) + len(list(cell.parameters()))
    for parameter in cell.parameters():
        parameter.grad = None
    run_layer(cell, -x_TBF)[0].sum().backward()  # type: ignore[no-untyped-call]
    assert all(map(torch.equal, given_out, before))


def test_gradients_add_up_over_batches() -> None:
    cell, x_TBF = make_cell("gru", 2, H), torch.randn(5, 4, 2, dtype=torch.float64)
    final_state(cell, x_TBF).h.sum().backward()  # type: ignore[no-untyped-call]
    whole = [parameter.grad for parameter in cell.parameters()]
    for parameter in cell.parameters():
        parameter.grad = None
    for half_TBF in x_TBF.chunk(2, dim=1):
        final_state(cell, half_TBF).h.sum().backward()  # type: ignore[no-untyped-call]
    for parameter, expected in zip(cell.parameters(), whole, strict=True):
        assert parameter.grad is not None
        assert expected is not None
        assert distance(parameter.grad, expected) <= DOUBLE


def test_two_graphs_of_one_cell_stand_side_by_side() -> None:
    cell = make_cell("lstm", 2, H)
    one, other = (torch.randn(5, 3, 2, dtype=torch.float64) for _ in range(2))
    losses = [final_state(cell, x_TBF).h.sum() for x_TBF in (one, other)]
    for x_TBF, loss in zip((one, other), losses, strict=True):
        expected = torch.autograd.grad(stepped(cell, x_TBF)[1].h.sum(), list(cell.parameters()))
        given = torch.autograd.grad(loss, list(cell.parameters()))
        assert max(map(distance, given, expected)) <= DOUBLE


def test_a_graph_can_be_used_twice_until_its_memory_is_wanted() -> None:
    """Wrong numbers would be the alternative."""
    cell, x_TBF = make_cell("lstm", 2, H), torch.randn(5, 3, 2, dtype=torch.float64)
    loss, parameters = final_state(cell, x_TBF).h.sum(), list(cell.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    assert all(map(torch.equal, torch.autograd.grad(loss, parameters, retain_graph=True), first))
    final_state(cell, x_TBF)
    with pytest.raises(RuntimeError, match="a second backward pass came after the cell's next forward pass"):
        torch.autograd.grad(loss, parameters)


def test_it_goes_with_the_cell() -> None:
    cell = make_cell("lstm", 2, H)
    final_state(cell, torch.randn(5, 3, 2, dtype=torch.float64)).h.sum().backward()  # type: ignore[no-untyped-call]
    memory = weakref.ref(layer._tapes[cell])
    del cell
    gc.collect()
    assert memory() is None


class Model(nn.Module):
    """A cell under a linear head."""

    def __init__(self, kind: str, final: Callable[[Cell, Tensor], State]) -> None:
        super().__init__()
        self.cell = make_cell(kind, 2, H)
        self.head = nn.Linear(H, 1, dtype=torch.float64)
        self.final = final

    def forward(self, x_TBF: Tensor) -> Tensor:
        return cast("Tensor", self.head(self.final(self.cell, x_TBF).h))


@kinds
def test_a_fit_takes_the_same_course(kind: str) -> None:
    """Ten epochs of fused AdamW, with clipped gradients and a last batch that is smaller."""
    batches = [torch.randn(5, batch, 2, dtype=torch.float64) for batch in (4, 4, 3)] * 10
    courses = []
    for final in (final_state, lambda cell, x_TBF: stepped(cell, x_TBF)[1]):
        model = Model(kind, final)
        optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
        losses = []
        for x_TBF in batches:
            optimiser.zero_grad()
            loss = (model(x_TBF) - x_TBF.sum(dim=(0, 2))[:, None]).square().mean()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            losses.append(loss.detach())
        courses.append(torch.stack(losses))
    assert distance(*courses) <= 1e-9
    assert courses[0][-3:].mean() < courses[0][:3].mean()


def test_distributed_training_finds_the_gradients(tmp_path: Path) -> None:
    """DistributedDataParallel takes them into one bucket as they arrive; one process is enough to see that."""
    x_TBF = torch.randn(5, 3, 2, dtype=torch.float64)
    alone = Model("lstm", final_state)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(Model("lstm", final_state), gradient_as_bucket_view=True)
        wrapped.load_state_dict({f"module.{name}": value for name, value in alone.state_dict().items()})
        for model in (alone, wrapped):
            model(x_TBF).sum().backward()
    finally:
        distributed.destroy_process_group()
    gradients = [parameter.grad for parameter in wrapped.parameters() if parameter.grad is not None]
    assert len({gradient.untyped_storage().data_ptr() for gradient in gradients}) == 1
    assert all(
        torch.equal(gradient, cast("Tensor", parameter.grad))
        for gradient, parameter in zip(gradients, alone.parameters(), strict=True)
    )
