"""Long short-term memory over a whole sequence: its equations are in training/cells/lstm.py.

    a_t = W [1; x_t; h_{t-1}]          one product for o, i, f and g, doubled for g: tanh(a) = 2 σ(2a) - 1
    c_t = f * c_{t-1} + i * g
    h_t = o * m,    m = tanh(c_t)

Back through time, with d v = ∂loss/∂v and δ_g = ∂loss/∂(what goes into gate g's σ or tanh):

    d c_t    += d h_t * o * (1 - m²)
    δ_o       = d h_t * m       * o (1 - o)
    δ_i       = d c_t * g       * i (1 - i)
    δ_f       = d c_t * c_{t-1} * f (1 - f)
    δ_g       = d c_t * i       * (1 - g²)
    d c_{t-1} = d c_t * f
    d h_{t-1} = W_hᵀ [δ_o; δ_i; δ_f; δ_g]  +  what the loss takes from h_{t-1} itself

All that stands right of d h_t or d c_t is fixed by the pass through: the factors. The gates lie in the order
o, i, f, g, so that the three that d c_t goes to are neighbours.
"""

import torch

from training.cells.fast.arithmetic import sigmoid_backward, tanh, tanh_backward, tanh_of_sigmoid_
from training.cells.fast.tape import Layout, Tape


class LSTMTape(Tape):
    """See above. The gates, c and m are written down."""

    linears = ("output_gate", "input_gate", "forget_gate", "cell_gate")

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        hidden = layout.hidden
        a_TBG, c_TBH, m_TBH = self.new_steps(4), self.new_states(), self.new_steps(1)
        gates_TBH = a_TBG.chunk(4, dim=2)
        self.a = self.by_step(a_TBG)
        self.o, self.i, self.f, self.g = map(self.by_step, gates_TBH)
        self.c, self.m = self.by_step(c_TBH), self.by_step(m_TBH)

        d_a_SBG, c_by_h_SBH = self.new_block(4), self.new_block(1)
        d_gates_SBH = d_a_SBG.chunk(4, dim=2)
        self.d_o, self.c_by_h = d_gates_SBH[0].unbind(), c_by_h_SBH.unbind()
        self.d_ifg = self.side_by_side(d_a_SBG[:, :, hidden:])
        self.d_c = torch.empty_like(self.d_h)
        self.d_c_B1H = self.d_c[:, None]

        self.written = self.by_block(*gates_TBH, c_TBH, m_TBH)
        self.scratch = self.in_block(*d_gates_SBH, c_by_h_SBH)
        self.product = self.add_product(["xh"] * 4, self.u_TBK, d_a_SBG, multiples=[1, 1, 1, 2])
        self.add_state(self.c, self.d_c)

    def step(self, t: int) -> None:
        """The equations at the top."""
        self.product.forward(t, from_zeros=self.is_from_zeros(t), out=self.a[t])
        self.a[t].sigmoid_()
        tanh_of_sigmoid_(self.g[t])
        torch.mul(self.f[t], self.c[t], out=self.c[t + 1]).addcmul_(self.i[t], self.g[t])
        tanh(self.c[t + 1], out=self.m[t])
        torch.mul(self.o[t], self.m[t], out=self.h[t + 1])

    def factors(self, block: int) -> None:
        """Right of d h_t and d c_t."""
        o, i, f, g, c_before, m = self.written[block]
        d_o, d_i, d_f, d_g, c_by_h = self.scratch[block]
        tanh_backward(o, m, grad_input=c_by_h)
        sigmoid_backward(m, o, grad_input=d_o)
        sigmoid_backward(g, i, grad_input=d_i)
        sigmoid_backward(c_before, f, grad_input=d_f)
        tanh_backward(i, g, grad_input=d_g)

    def back(self, t: int, k: int) -> None:  # noqa: ARG002
        """The first equation, then δ of every gate."""
        self.d_c.addcmul_(self.d_h, self.c_by_h[k])
        self.d_o[k].mul_(self.d_h)
        self.d_ifg[k].mul_(self.d_c_B1H)

    def past(self, t: int, k: int) -> None:
        """The last two equations."""
        self.d_c.mul_(self.f[t])
        self.product.back(k, out=self.d_h)
