"""The matrices of several gates stacked as one, applied at every step of a sequence.

Shapes: T steps, B batch, F input features, H hidden, G gates, K = 1 + F + H columns; S steps of a block.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from training.cells.fast.arithmetic import add_product, multiply


class Product:
    """What goes into a group of gates, by one matrix product a step.

        a_t = W u_t,    u_t = [1; x_t; h_{t-1}],    W = [b  W_x  W_h]

    with the gates' matrices below one another. The 1 makes the bias a column of W, so that its gradient comes
    out of W's. Going back, with δ_t = ∂loss/∂a_t:

        ∂loss/∂h_{t-1} = W_hᵀ δ_t       ∂loss/∂x_t = W_xᵀ δ_t       ∂loss/∂W = Σ_t δ_t u_tᵀ

    and the last two are one product each over all rows of a block of steps.

    Shapes: u [T, B, K]; W [G*H, K]; a and δ [B, G*H] a step, δ kept for one block [S, B, G*H]. `reads` names for
    each gate what its Linear multiplies: "xh", "x" or "h"; the other columns of W stay zeros. A product whose
    gates all read x alone may be given u and W without the columns of h. `multiples` names for each gate the
    multiple of a that comes out; what goes back is δ of a itself.
    """

    def __init__(
        self,
        reads: Sequence[str],
        u_TBK: Tensor,
        d_a_SBG: Tensor,
        *,
        multiples: Sequence[int],
        num_features: int,
        blocks: Sequence[slice],
        matmul_dtype: torch.dtype,
    ) -> None:
        x, h = slice(1, 1 + num_features), slice(1 + num_features, None)
        columns = {"xh": slice(1, None), "x": x, "h": h}
        self.reads, self._num_features = tuple(reads), num_features
        W_GK = u_TBK.new_zeros(d_a_SBG.shape[2], u_TBK.shape[2], dtype=matmul_dtype)
        self._W_GK, self._W_x, self._W_h = W_GK, W_GK[:, x], W_GK[:, h]
        self._multiples_G1 = W_GK.new_tensor(multiples).repeat_interleave(len(W_GK) // len(reads))[:, None]
        self._out_GK = W_GK if set(multiples) == {1} else torch.empty_like(W_GK)
        self._out_KG = self._out_GK.t()
        self._slots = [
            slot
            for W_HK, read in zip(W_GK.chunk(len(reads)), reads, strict=True)
            for slot in (W_HK[:, columns[read]], W_HK[:, 0])
        ]
        self._u_TBK, self._u = u_TBK, u_TBK.unbind()
        # Where the past is zeros, there is only [1; x] to multiply.
        self._u_start, self._out_start = u_TBK[0, :, : x.stop], self._out_KG[: x.stop]
        self._d_a = d_a_SBG.unbind()
        self._blocks = [
            (u_TBK[steps].flatten(0, 1).t(), d_a_SBG[: steps.stop - steps.start].flatten(0, 1)) for steps in blocks
        ]
        # The other way round than W: so the sum over steps is fastest.
        self._d_W_KG = u_TBK.new_empty(W_GK.shape[1], W_GK.shape[0])
        self._d_weights, self._d_biases = self._d_W_KG[1:].t(), self._d_W_KG[0]

    def load(self, parameters: Sequence[Tensor]) -> None:
        """Copy in weight and bias of the first gate's Linear, of the second's, and so on."""
        torch._foreach_copy_(self._slots, list(parameters))
        if self._out_GK is not self._W_GK:
            torch.mul(self._W_GK, self._multiples_G1, out=self._out_GK)

    def forward(self, t: int, *, from_zeros: bool, out: Tensor) -> None:
        """The multiples of a_t."""
        if from_zeros:
            multiply(self._u_start, self._out_start, out=out)
        else:
            multiply(self._u[t], self._out_KG, out=out)

    def forward_all(self, *, out: Tensor) -> None:
        """The same of all steps [T, B, G*H] at once, for gates that read x alone."""
        multiply(self._u_TBK.flatten(0, 1), self._out_KG, out=out.flatten(0, 1))

    def back(self, k: int, *, out: Tensor) -> None:
        """∂loss/∂h before step k of the block."""
        multiply(self._d_a[k], self._W_h, out=out)

    def add_back(self, k: int, *, to: Tensor) -> None:
        """As `back`, added to what comes by other ways."""
        add_product(self._d_a[k], self._W_h, to=to)

    def add_input_gradient(self, block: int, *, to: Tensor) -> None:
        """∂loss/∂x [S, B, F] of a block, added to what comes by other products."""
        add_product(self._blocks[block][1], self._W_x, to=to.flatten(0, 1))

    def add_gradient(self, block: int) -> None:
        """∂loss/∂W of a block, added to those before it. Block 0 is where the pass back begins."""
        u_KN, d_a_NG = self._blocks[block]
        d_a_NG = d_a_NG.to(self._W_GK.dtype)
        if block == 0:
            multiply(u_KN, d_a_NG, out=self._d_W_KG)
        else:
            add_product(u_KN, d_a_NG, to=self._d_W_KG)

    def parameter_gradients(self) -> list[Tensor]:
        """∂loss/∂W cut up for the gates' Linears, in the order of `load`, in memory of its own."""
        weights = self._d_weights.clone(memory_format=torch.contiguous_format).chunk(len(self.reads))
        biases = self._d_biases.clone().chunk(len(self.reads))
        return [
            part
            for weight, bias, read in zip(weights, biases, self.reads, strict=True)
            for part in (weight[:, self._num_features :] if read == "h" else weight, bias)
        ]
