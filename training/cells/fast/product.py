"""The matrices of several gates stacked as one, applied at every step of a sequence.

Shapes: T steps, B batch, F input features, H hidden, G gates, K = 1 + F + H columns; S steps of a block.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from training.cells.fast.arithmetic import add_product, multiply


class Product:
    """What goes into a group of gates, by one matrix product a step:

        a_t = W u_t,    u_t = [1; x_t; h_{t-1}],    W = [b  W_x  W_h]

    with the gates' matrices below one another. The 1 makes the bias a column of W, so that its gradient comes
    out of W's. Going back, with δ_t = ∂loss/∂a_t:

        ∂loss/∂h_{t-1} = W_hᵀ δ_t       ∂loss/∂x_t = W_xᵀ δ_t       ∂loss/∂W = Σ_t δ_t u_tᵀ

    and the last two are one product each over all rows of a block of steps.

    Shapes: u [T, B, K]; W [G*H, K]; a and δ [B, G*H] a step, δ kept for the S steps of a block. `reads` names for
    each gate what its Linear multiplies: "xh", "x" or "h"; the other columns of W stay zeros.
    """

    def __init__(
        self,
        reads: Sequence[str],
        u_TBK: Tensor,
        d_a_SBG: Tensor,
        *,
        blocks: Sequence[slice],
        num_features: int,
        dtype: torch.dtype,
    ) -> None:
        x, h = slice(1, 1 + num_features), slice(1 + num_features, None)
        columns = {"xh": slice(1, None), "x": x, "h": h}
        self.reads = tuple(reads)
        self._num_features = num_features
        self._gradient = u_TBK.new_empty(u_TBK.shape[2], d_a_SBG.shape[2])
        self._W = u_TBK.new_zeros(d_a_SBG.shape[2], u_TBK.shape[2], dtype=dtype)
        self._W_x, self._W_h = self._W[:, x], self._W[:, h]
        self._slots = [
            slot
            for W, read in zip(self._W.chunk(len(reads)), reads, strict=True)
            for slot in (W[:, columns[read]], W[:, 0])
        ]
        self._steps = [(u_BK, self._W.t()) for u_BK in u_TBK.unbind()]
        # Where the past is zeros, there is only [1; x] to multiply.
        self._start = (u_TBK[0, :, : x.stop], self._W[:, : x.stop].t())
        self._d_a = d_a_SBG.unbind()
        self._blocks = [
            (u_TBK[steps].flatten(0, 1).t(), d_a_SBG[: steps.stop - steps.start].flatten(0, 1)) for steps in blocks
        ]

    def load(self, parameters: Sequence[Tensor]) -> None:
        """Copy the gates' weights and biases in: weight, bias of the first, weight, bias of the second, …"""
        torch._foreach_copy_(self._slots, parameters)  # noqa: SLF001  (its documented name)

    def forward(self, t: int, *, from_zeros: bool, out: Tensor) -> None:
        """a_t."""
        u_BK, W_KG = self._start if from_zeros else self._steps[t]
        multiply(u_BK, W_KG, out=out)

    def forward_all(self, u_TBK: Tensor, *, out: Tensor) -> None:
        """a_t of all steps [T, B, G*H] at once, for gates that do not read h."""
        multiply(u_TBK.flatten(0, 1), self._W.t(), out=out.flatten(0, 1))

    def back(self, k: int, *, out: Tensor) -> None:
        """∂loss/∂h before step k of the block."""
        multiply(self._d_a[k], self._W_h, out=out)

    def add_back(self, k: int, *, to: Tensor) -> None:
        """As `back`, added to what comes by other ways."""
        add_product(self._d_a[k], self._W_h, to=to)

    def add_input_gradient(self, block: int, *, to: Tensor) -> None:
        """∂loss/∂x [S, B, F] of a block, added to what comes by other products."""
        add_product(self._blocks[block][1], self._W_x, to=to.flatten(0, 1))

    def new_gradient(self) -> Tensor:
        """Zeros to gather ∂loss/∂W in, transposed: [K, G*H], the way round in which the sum is fastest."""
        return torch.zeros_like(self._W.t(), dtype=self._d_a_SBG.dtype)

    def add_gradient(self, block: int, *, to: Tensor) -> None:
        """∂loss/∂W of a block, added to that of the blocks after it."""
        u, d_a = self._blocks[block]
        add_product(u, d_a.to(self._W.dtype), to=to)

    def parameter_gradients(self, d_W_KG: Tensor) -> list[Tensor]:
        """∂loss/∂W cut up for the gates' Linears, in the order of `load`."""
        weights, biases = d_W_KG[1:].t().contiguous().chunk(len(self.reads)), d_W_KG[0].chunk(len(self.reads))
        return [
            part
            for weight, bias, read in zip(weights, biases, self.reads, strict=True)
            for part in (weight[:, self._num_features :] if read == "h" else weight, bias)
        ]
