"""The pass through one layer and the pass back: the loops over time that all kinds share.

Shapes: T steps, B batch, F input features, H hidden, G gates, K = 1 + F + H columns; S steps of a block.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from training.cells.fast.product import Product

# On a CPU the pass back takes blocks of steps with about this many rows, whose numbers stay in its cache.
BLOCK_ROWS = 512


class Layout(NamedTuple):
    """All that fixes a tape's memory. `matmul_dtype` is `dtype`, or less under autocast."""

    steps: int
    batch: int
    num_features: int
    hidden: int
    dtype: torch.dtype
    matmul_dtype: torch.dtype
    device: torch.device
    keep: bool


class Gradients(NamedTuple):
    """∂loss/∂ all that went in. Without a given state, `state` is empty."""

    x_TBF: Tensor | None
    state: list[Tensor]
    parameters: list[Tensor]


class Tape(ABC):
    """What a pass through a layer writes down, and how to read it backwards.

    A kind says how a step is computed (`step`), how ∂loss/∂a of its gates follows from ∂loss/∂(state after it)
    (`back`), and ∂loss/∂(state before it) from these (`past`). What `back` needs besides depends on no gradient,
    so it is computed for a block of steps at once (`factors`), in the memory where ∂loss/∂a will be.

    Index t of a state is the state before step t, so there are T + 1 of them; index k of a block's memory is its
    step k; block 0 holds the last steps. The memory serves the next pass of the same layout: `passes` counts
    them. If the layout does not keep, every step writes over the one before, and there is no way back.
    """

    linears: ClassVar[tuple[str, ...]]
    """The cell's Linears, in the order of the products' gates."""

    def __init__(self, layout: Layout) -> None:
        T, B, F, H = layout[:4]
        self.layout, self.passes = layout, 0
        size = min(T, max(1, BLOCK_ROWS // max(1, B))) if layout.device.type == "cpu" else T
        self._block_steps = size if layout.keep else 0
        self._blocks = [slice(start, stop) for stop, start in pairwise([*range(T, 0, -size), 0])] if layout.keep else []
        self._products: list[Product] = []
        self._inputs: list[Tensor] = []
        self.u_TBK = self.new_inputs(T + 1)
        self.h_TBH = self.u_TBK[:, :, 1 + F :]
        self.h = self.h_TBH.unbind()
        self.d_h = self._new(B, H)
        self._states: list[Sequence[Tensor]] = []
        self._d_states: list[Tensor] = []
        self.add_state(self.h, self.d_h)
        self._past_is_zeros = True

    @abstractmethod
    def step(self, t: int) -> None:
        """The state after step t from the one before it."""

    @abstractmethod
    def back(self, t: int, k: int) -> None:
        """∂loss/∂a of step t from ∂loss/∂(state after it)."""

    @abstractmethod
    def past(self, t: int, k: int) -> None:
        """∂loss/∂(state before step t), in place of that after it."""

    def prepare(self) -> None:  # noqa: B027  most kinds have nothing to prepare
        """What can be computed for all steps before the first."""

    def factors(self, block: int) -> None:  # noqa: B027  the simplest kind has none
        """What the gradients of a block's steps are multiplied by."""

    # The two passes.

    def forward(self, x_TBF: Tensor, state: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
        """Write the tape: the state after the last step. No `state` is zeros."""
        self.passes += 1
        starts_at_zeros, self._past_is_zeros = self._past_is_zeros, not state
        for product in self._products:
            count = 2 * len(product.reads)
            product.load(parameters[:count])
            parameters = parameters[count:]
        for inputs_TBF in self._inputs:
            inputs_TBF.copy_(x_TBF)
        for index, steps in enumerate(self._states):
            if state:
                steps[0].copy_(state[index])
            elif not starts_at_zeros:
                steps[0].zero_()
        self.prepare()
        for t in range(self.layout.steps):
            self.step(t)
        return [steps[-1].clone() for steps in self._states]

    def outputs(self) -> Tensor:
        """The h after every step, [T, B, H]."""
        return self.h_TBH[1:].clone(memory_format=torch.contiguous_format)

    def backward(self, d_outputs_TBH: Tensor | None, d_final: Sequence[Tensor | None], *, to_x: bool) -> Gradients:
        """Read the tape: from ∂loss/∂outputs and ∂loss/∂(final state), None where the loss does not use them."""
        d_x_TBF = self._new(*self.layout[:3]).zero_() if to_x else None
        for d_state, given in zip(self._d_states, d_final, strict=True):
            if given is None:
                d_state.zero_()
            else:
                d_state.copy_(given)
        for block, steps in enumerate(self._blocks):
            self.factors(block)
            for t in reversed(range(steps.start, steps.stop)):
                if d_outputs_TBH is not None:
                    self.d_h.add_(d_outputs_TBH[t])
                self.back(t, t - steps.start)
                if not self.is_from_zeros(t):
                    self.past(t, t - steps.start)
            for product in self._products:
                product.add_gradient(block)
                if d_x_TBF is not None:
                    product.add_input_gradient(block, to=d_x_TBF[steps])
        return Gradients(
            d_x_TBF,
            [] if self._past_is_zeros else [d_state.clone() for d_state in self._d_states],
            [gradient for product in self._products for gradient in product.parameter_gradients()],
        )

    def is_from_zeros(self, t: int) -> bool:
        """Whether the state before step t is known to be zeros."""
        return t == 0 and self._past_is_zeros

    # What a kind builds its memory from.

    def _new(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.layout.dtype, device=self.layout.device)

    def new_inputs(self, steps: int) -> Tensor:
        """[steps, B, K] for rows [1; x; h]. Every pass fills in x."""
        num_features = self.layout.num_features
        u_TBK = self._new(steps, self.layout.batch, 1 + num_features + self.layout.hidden)
        u_TBK[:, :, 0] = 1
        self._inputs.append(u_TBK[: self.layout.steps, :, 1 : 1 + num_features])
        return u_TBK

    def new_sequence(self) -> Tensor:
        """[T, B, H] for what is computed for all steps at once."""
        return self._new(self.layout.steps, self.layout.batch, self.layout.hidden)

    def new_steps(self, gates: int) -> Tensor:
        """[T, B, G*H] for what is computed step by step."""
        return self._new(self.layout.steps if self.layout.keep else 1, self.layout.batch, gates * self.layout.hidden)

    def new_states(self) -> Tensor:
        """[T + 1, B, H] for a state beside h."""
        return self._new(self.layout.steps + 1 if self.layout.keep else 1, self.layout.batch, self.layout.hidden)

    def new_block(self, gates: int) -> Tensor:
        """[S, B, G*H] for the way back over a block."""
        return self._new(self._block_steps, self.layout.batch, gates * self.layout.hidden)

    def by_step(self, written_TBG: Tensor) -> Sequence[Tensor]:
        """Views of `new_steps` or `new_states`, one for each step or state."""
        return written_TBG.unbind() if self.layout.keep else [written_TBG[0]] * (self.layout.steps + 1)

    def by_block(self, *written_TBG: Tensor) -> list[list[Tensor]]:
        """Views of what was written down, for each block."""
        return [[written[steps] for written in written_TBG] for steps in self._blocks]

    def in_block(self, *scratch_SBG: Tensor) -> list[list[Tensor]]:
        """Views of `new_block`, for each block: the first in time may be shorter than the others."""
        return [[scratch[: steps.stop - steps.start] for scratch in scratch_SBG] for steps in self._blocks]

    def side_by_side(self, scratch_SBG: Tensor) -> Sequence[Tensor]:
        """Views [B, G, H] of `new_block`, one for each step: to multiply neighbouring gates by one [B, 1, H]."""
        steps, batch, columns = scratch_SBG.shape
        return scratch_SBG.view(steps, batch, columns // self.layout.hidden, self.layout.hidden).unbind()

    def add_product(self, reads: Sequence[str], u_TBK: Tensor, d_a_SBG: Tensor, *, multiples: Sequence[int]) -> Product:
        """A product of this layer. The passes load its weights and gather its gradients."""
        product = Product(
            reads,
            u_TBK,
            d_a_SBG,
            multiples=multiples,
            num_features=self.layout.num_features,
            blocks=self._blocks,
            matmul_dtype=self.layout.matmul_dtype,
        )
        self._products.append(product)
        return product

    def add_state(self, steps: Sequence[Tensor], d_state: Tensor) -> None:
        """A field of the state, in the cell's order. The passes start it, return it, and its gradient."""
        steps[0].zero_()
        self._states.append(steps)
        self._d_states.append(d_state)
