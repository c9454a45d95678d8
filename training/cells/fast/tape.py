"""The pass through one layer and the pass back: the loops over time that all kinds share.

Shapes: T steps, B batch, F input features, H hidden, K = 1 + F + H columns; S steps of a block.
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


class Block(NamedTuple):
    """Neighbouring steps."""

    start: int
    stop: int

    @property
    def steps(self) -> slice:
        """Where they are among all steps; also where the states before them are."""
        return slice(self.start, self.stop)

    @property
    def scratch(self) -> slice:
        """Where they are in memory for one block."""
        return slice(0, self.stop - self.start)


class Gradients(NamedTuple):
    """∂loss/∂ all that went in."""

    x_TBF: Tensor | None
    state: list[Tensor]
    parameters: list[Tensor]


class Tape(ABC):
    """What a pass through a layer writes down, and how to read it backwards.

    A kind says how a step is computed (`step`), how ∂loss/∂a of its gates follows from ∂loss/∂(state after it)
    (`back`), and ∂loss/∂(state before it) from these (`past`). What `back` needs besides depends on no gradient,
    so it is computed for a block of steps at once (`factors`).

    Index t of a state is the state before step t, so there are T + 1 of them; index k of a block's memory is its
    step k. The memory serves the next pass of the same layout: `passes` counts them. If the layout does not
    keep, every step writes over the one before, and there is no way back.
    """

    linears: ClassVar[tuple[str, ...]]
    """The cell's Linears, in the order of the products' gates."""

    def __init__(self, layout: Layout) -> None:
        T, B, F, H = layout[:4]
        block = min(T, max(1, BLOCK_ROWS // B)) if layout.device.type == "cpu" else T
        stops = [*range(T, 0, -block), 0]
        self.layout, self.passes = layout, 0
        self.products: list[Product] = []
        self._blocks = [Block(start, stop) for stop, start in pairwise(stops)]
        self._block_steps = block if layout.keep else 0
        self._x_slots: list[Tensor] = []
        self.u_TBK = self.new_inputs(T + 1)
        self.h = self.u_TBK[:, :, 1 + F :].unbind()
        self.d_h = self._new(B, H)
        self.states: list[Sequence[Tensor]] = [self.h]
        self.d_states = [self.d_h]
        self._past_is_zeros = True

    # Memory.

    def _new(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.layout.dtype, device=self.layout.device)

    def new_inputs(self, steps: int) -> Tensor:
        """[steps, B, K] for rows [1; x; h]. Every pass fills x in."""
        num_features = self.layout.num_features
        u_TBK = self._new(steps, self.layout.batch, 1 + num_features + self.layout.hidden)
        u_TBK[:, :, 0] = 1
        self._x_slots.append(u_TBK[: self.layout.steps, :, 1 : 1 + num_features])
        return u_TBK

    def new_steps(self, gates: int = 1) -> Tensor:
        """[T, B, gates*H] to write down what happens in each step."""
        return self._new(self.layout.steps if self.layout.keep else 1, self.layout.batch, gates * self.layout.hidden)

    def new_sequence(self) -> Tensor:
        """[T, B, H] for what is computed for all steps at once."""
        return self._new(self.layout.steps, self.layout.batch, self.layout.hidden)

    def new_states(self) -> Tensor:
        """[T + 1, B, H] to write down a state beside h."""
        return self._new(self.layout.steps + 1 if self.layout.keep else 1, self.layout.batch, self.layout.hidden)

    def new_block(self, gates: int = 1) -> Tensor:
        """[S, B, gates*H] for the way back."""
        return self._new(self._block_steps, self.layout.batch, gates * self.layout.hidden)

    def new_state_gradient(self) -> Tensor:
        """∂loss/∂(a state beside h), [B, H]."""
        self.d_states.append(torch.empty_like(self.d_h))
        return self.d_states[-1]

    def by_step(self, written_TBG: Tensor) -> Sequence[Tensor]:
        """Views [B, …] of them, one for each step or state."""
        return written_TBG.unbind() if self.layout.keep else [written_TBG[0]] * (self.layout.steps + 1)

    def new_product(self, reads: Sequence[str], u_TBK: Tensor, d_a_SBG: Tensor) -> Product:
        """A product of this layer, which takes part in the pass back."""
        layout = self.layout
        sizes = {"num_features": layout.num_features, "hidden": layout.hidden}
        self.products.append(Product(reads, u_TBK, d_a_SBG, dtype=layout.matmul_dtype, **sizes))
        return self.products[-1]

    # The pass.

    @abstractmethod
    def step(self, t: int) -> None:
        """The state after step t from the one before it."""

    def prepare(self) -> None:
        """What can be computed for all steps at once."""

    def starts_from_zeros(self, t: int) -> bool:
        """Whether the state before step t is known to be zeros."""
        return t == 0 and self._past_is_zeros

    def forward(self, x_TBF: Tensor, state: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
        """Write the tape: the state after the last step. No `state` is zeros."""
        self.passes += 1
        self._past_is_zeros = not state
        for product in self.products:
            product.load(parameters[: 2 * len(product.reads)])
            parameters = parameters[2 * len(product.reads) :]
        for slot in self._x_slots:
            slot.copy_(x_TBF)
        for k, steps in enumerate(self.states):
            steps[0].copy_(state[k]) if state else steps[0].zero_()
        self.prepare()
        for t in range(self.layout.steps):
            self.step(t)
        return [steps[-1].clone() for steps in self.states]

    def outputs(self) -> Tensor:
        """h after every step, [T, B, H]."""
        return self.u_TBK[1:, :, 1 + self.layout.num_features :].contiguous()

    # The pass back.

    def factors(self, block: Block) -> None:
        """What the gradients of a block's steps are multiplied by."""

    @abstractmethod
    def back(self, t: int, k: int) -> None:
        """∂loss/∂a of step t from ∂loss/∂(state after it)."""

    @abstractmethod
    def past(self, t: int, k: int) -> None:
        """∂loss/∂(state before step t), in place of that after it."""

    def backward(
        self, d_outputs_TBH: Tensor | None, d_final: Sequence[Tensor | None], *, x_too: bool
    ) -> Gradients:
        """Read the tape: from ∂loss/∂outputs and ∂loss/∂(final state), None where the loss does not use them."""
        d_x_TBF = torch.zeros_like(self._x_slots[0]) if x_too else None
        d_W = [product.new_gradient() for product in self.products]
        for d_state, given in zip(self.d_states, d_final, strict=True):
            d_state.zero_() if given is None else d_state.copy_(given)
        for block in self._blocks:
            self.factors(block)
            for t in reversed(range(block.start, block.stop)):
                if d_outputs_TBH is not None:
                    self.d_h.add_(d_outputs_TBH[t])
                self.back(t, t - block.start)
                if not self.starts_from_zeros(t):
                    self.past(t, t - block.start)
            for product, gradient in zip(self.products, d_W, strict=True):
                product.add_gradient(block.steps, to=gradient)
                if d_x_TBF is not None:
                    product.add_input_gradient(to=d_x_TBF[block.steps])
        parameters = [
            part
            for product, gradient in zip(self.products, d_W, strict=True)
            for part in product.parameter_gradients(gradient)
        ]
        return Gradients(d_x_TBF, [d_state.clone() for d_state in self.d_states], parameters)
