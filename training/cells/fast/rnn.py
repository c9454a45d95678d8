"""The simple recurrent cell over a whole sequence: its equation is in training/cells/rnn.py.

    h_t = tanh(a_t),    a_t = W [1; x_t; h_{t-1}]          the product is doubled: tanh(a) = 2 σ(2a) - 1

Back through time, with d v = ∂loss/∂v:

    δ_t       = d h_t * (1 - h_t²)                                      ∂loss/∂a_t
    d h_{t-1} = W_hᵀ δ_t  +  what the loss takes from h_{t-1} itself
"""

from training.cells.fast.arithmetic import tanh_backward, tanh_of_half_
from training.cells.fast.tape import Layout, Tape


class RNNTape(Tape):
    """See above. Nothing but h has to be written down."""

    linears = ("hidden",)

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        d_a_SBH = self.new_block(1)
        self.d_a = d_a_SBH.unbind()
        self.product = self.add_product(["xh"], self.u_TBK, d_a_SBH, multiples=[2])

    def step(self, t: int) -> None:
        """The equation at the top."""
        self.product.forward(t, from_zeros=self.is_from_zeros(t), out=self.h[t + 1])
        tanh_of_half_(self.h[t + 1])

    def back(self, t: int, k: int) -> None:
        """δ."""
        tanh_backward(self.d_h, self.h[t + 1], grad_input=self.d_a[k])

    def past(self, t: int, k: int) -> None:  # noqa: ARG002
        """The last equation."""
        self.product.back(k, out=self.d_h)
