"""One layer over a whole sequence: the passes of tape.py as one differentiable operation."""

from collections.abc import Sequence
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

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

# The tape of the last training step of every cell, for the next one: fresh memory costs a page fault per 4 KiB,
# a third of the time of a step at (F, H, T, B) = (8, 128, 96, 256).
_tapes: WeakKeyDictionary[nn.Module, Tape] = WeakKeyDictionary()


class _Passes(torch.autograd.Function):
    """Through a tape and back. Tensors in: x, the state's fields (none: zeros), the parameters."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, tape: Tape, num_states: int, outputs: bool, *tensors: Tensor) -> Any:
        x_TBF, state, parameters = tensors[0], tensors[1 : 1 + num_states], tensors[1 + num_states :]
        final = tape.forward(x_TBF, state, parameters)
        ctx.set_materialize_grads(False)
        ctx.cell, ctx.tape, ctx.written, ctx.num_states = cell, tape, tape.passes, num_states
        return tape.outputs() if outputs else None, *final

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_outputs_TBH: Tensor | None, *d_final: Tensor | None) -> Any:
        tape = ctx.tape
        if tape.passes != ctx.written:
            raise RuntimeError(
                "a layer's second backward pass came after its cell's next forward pass, which has used the memory "
                "again; call the named-gate cell itself where a graph has to be kept"
            )
        gradients = tape.backward(d_outputs_TBH, d_final, x_too=ctx.needs_input_grad[4])
        _tapes[ctx.cell] = tape
        return None, None, None, None, gradients.x_TBF, *gradients.state[: ctx.num_states], *gradients.parameters


def _take_tape(cell: Cell, kind: type[Tape], layout: Layout) -> Tape:
    tape = _tapes.pop(cell, None) if layout.keep else None
    return tape if tape is not None and tape.layout == layout else kind(layout)


def _run(cell: Cell, x_TBF: Tensor, state: State | None, *, outputs: bool) -> tuple[Tensor | None, State]:
    kind, make_state = _KINDS[type(cell)]
    linears = [getattr(cell, name) for name in kind.linears]
    parameters = [parameter for linear in linears for parameter in (linear.weight, linear.bias)]
    given: Sequence[Tensor] = () if state is None else state
    tensors = (x_TBF, *given, *parameters)
    dtype, device = parameters[0].dtype, x_TBF.device
    rounds = torch.is_autocast_enabled(device.type) and dtype != torch.float64
    layout = Layout(
        *x_TBF.shape,
        hidden=cell.hidden_size,
        dtype=dtype,
        matmul_dtype=torch.get_autocast_dtype(device.type) if rounds else dtype,
        device=device,
        keep=torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors),
    )
    tape = _take_tape(cell, kind, layout)
    if layout.keep:
        outputs_TBH, *final = _Passes.apply(cell, tape, len(given), outputs, *tensors)
    else:
        final = tape.forward(x_TBF, given, parameters)
        outputs_TBH = tape.outputs() if outputs else None
    return outputs_TBH, make_state(*final)


def run_layer(cell: Cell, x_TBF: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    outputs_TBH, final = _run(cell, x_TBF, state, outputs=True)
    return cast("Tensor", outputs_TBH), final


def final_state(cell: Cell, x_TBF: Tensor, state: State | None = None) -> State:
    return _run(cell, x_TBF, state, outputs=False)[1]
