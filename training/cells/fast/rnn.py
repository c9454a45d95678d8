"""The simple recurrent cell over a whole sequence: equations in training/cells/rnn.py.

    h_t = tanh(a_t),    a_t = W [1; x_t; h_{t-1}]

Back through time, with d h_t = ∂loss/∂h_t, all the ways that h_t acts on the loss:

    δ_t     = d h_t * (1 - h_t²)
    d h_{t-1} = W_hᵀ δ_t  +  what the loss takes from h_{t-1} itself
"""

from training.cells.fast.arithmetic import tanh, tanh_backward
from training.cells.fast.tape import Layout, Tape


class RNNTape(Tape):
    """See above. Nothing but h needs to be written down."""

    linears = ("hidden",)

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        d_a_SBH = self.new_block()
        self.d_a = d_a_SBH.unbind()
        self.hidden = self.new_product(["xh"], self.u_TBK, d_a_SBH)

    def step(self, t: int) -> None:
        h = self.h[t + 1]
        self.hidden.forward(t, from_zeros=self.starts_from_zeros(t), out=h)
        tanh(h, out=h)

    def back(self, t: int, k: int) -> None:
        tanh_backward(self.d_h, self.h[t + 1], grad_input=self.d_a[k])

    def past(self, t: int, k: int) -> None:
        self.hidden.back(k, out=self.d_h)
