"""One layer over a whole sequence: the two passes of a tape as one differentiable operation.

Shapes: T steps, B batch, F input features, H hidden.
"""

from collections.abc import Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from training.cells import Cell, GRUCell, GRUResetAfterCell, GRUState, LSTMCell, LSTMState, RNNCell, RNNState, State
from training.cells.fast.gru import GRUTape
from training.cells.fast.gru_reset_after import GRUResetAfterTape
from training.cells.fast.lstm import LSTMTape
from training.cells.fast.rnn import RNNTape
from training.cells.fast.tape import Layout, Tape

_KINDS: dict[type[Cell], tuple[type[Tape], type[State]]] = {
    RNNCell: (RNNTape, RNNState),
    LSTMCell: (LSTMTape, LSTMState),
    GRUCell: (GRUTape, GRUState),
    GRUResetAfterCell: (GRUResetAfterTape, GRUState),
}

# Every cell's tape waits here from the end of one training step to the next: fresh memory costs a page fault per
# 4 KiB, and its views cost more than a short sequence's arithmetic.
_tapes: WeakKeyDictionary[Cell, Tape] = WeakKeyDictionary()


def run_layer(cell: Cell, x_TBF: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """The output h of every step, [T, B, H], and the state after the last one. No `state` is zeros.

    Time comes first, so that layers stack without a copy: hand a batch-first window over as
    `x_BTF.transpose(0, 1)`. Raises ValueError if x cannot be the cell's input.
    """
    outputs_TBH, final = _run(cell, x_TBF, state, outputs=True)
    return cast("Tensor", outputs_TBH), final


def final_state(cell: Cell, x_TBF: Tensor, state: State | None = None) -> State:
    """As `run_layer`, where only the state after the last step is wanted: nothing is spent on the outputs."""
    return _run(cell, x_TBF, state, outputs=False)[1]


class _Passes(torch.autograd.Function):
    """Through a tape and back. `tensors` are x, the fields of the state (none for zeros), and the parameters."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, tape: Tape, num_states: int, outputs: bool, *tensors: Tensor) -> Any:
        ctx.set_materialize_grads(False)
        final = tape.forward(tensors[0], tensors[1 : 1 + num_states], tensors[1 + num_states :])
        ctx.cell, ctx.tape, ctx.written = cell, tape, tape.passes
        return tape.outputs() if outputs else None, *final

    @staticmethod
    def backward(ctx: Any, d_outputs_TBH: Tensor | None, *d_final: Tensor | None) -> Any:
        # `once_differentiable` would say so too, and costs 25 µs.
        if torch.is_grad_enabled():
            raise RuntimeError("the fast path cannot be differentiated twice (create_graph=True); step the cell itself")
        tape: Tape = ctx.tape
        if tape.passes != ctx.written:
            raise RuntimeError(
                "a second backward pass came after the cell's next forward pass, which has written over the "
                "first one's memory; to keep graphs, step the cell itself"
            )
        gradients = tape.backward(d_outputs_TBH, d_final, to_x=ctx.needs_input_grad[4])
        _tapes[ctx.cell] = tape
        return None, None, None, None, gradients.x_TBF, *gradients.state, *gradients.parameters


def _run(cell: Cell, x_TBF: Tensor, state: State | None, *, outputs: bool) -> tuple[Tensor | None, State]:
    kind, make_state = _KINDS[type(cell)]
    linears = [getattr(cell, name) for name in kind.linears]
    parameters = [parameter for linear in linears for parameter in (linear.weight, linear.bias)]
    given: Sequence[Tensor] = () if state is None else state
    tensors = (x_TBF, *given, *parameters)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    layout = _layout(x_TBF, cell, parameters[0].dtype, keep=keep)
    if keep:
        tape = _tapes.pop(cell, None)
        if tape is None or tape.layout != layout:
            tape = kind(layout)
        outputs_TBH, *final = _Passes.apply(cell, tape, len(given), outputs, *tensors)  # type: ignore[no-untyped-call]
    else:
        tape = kind(layout)
        final = tape.forward(x_TBF, given, parameters)
        outputs_TBH = tape.outputs() if outputs else None
    return outputs_TBH, make_state(*final)


def _layout(x_TBF: Tensor, cell: Cell, dtype: torch.dtype, *, keep: bool) -> Layout:
    if x_TBF.ndim != 3 or x_TBF.shape[0] == 0:
        raise ValueError(f"x is of shape {tuple(x_TBF.shape)}; it must be [T, B, F] with at least one step")
    steps, batch, num_features = x_TBF.shape
    device = x_TBF.device
    autocast = torch.is_autocast_enabled(device.type)
    if x_TBF.dtype != dtype and not autocast:
        raise ValueError(f"x is {x_TBF.dtype}; it must be {dtype} as the cell's weights are")
    # As autocast does for a Linear: doubles are left alone.
    rounds = autocast and dtype != torch.float64
    return Layout(
        steps=steps,
        batch=batch,
        num_features=num_features,
        hidden=cell.hidden_size,
        dtype=dtype,
        matmul_dtype=torch.get_autocast_dtype(device.type) if rounds else dtype,
        device=device,
        keep=keep,
    )
