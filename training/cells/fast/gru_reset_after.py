"""The GRU with the reset gate after the matmul, over a whole sequence: its equations are in training/cells/gru.py.

    p_t = W_n [1; x_t]                 one product for all steps
    a_t = W [1; x_t; h_{t-1}]          one product for z, r and q = U_n h_{t-1} + c_n, which reads no x
    n   = tanh(p_t + r * q)
    h_t = h_{t-1} + z * (n - h_{t-1})

Back through time, with d v = ∂loss/∂v and δ_g = ∂loss/∂(what goes into gate g's σ or tanh):

    δ_n       = d h_t * z             * (1 - n²)                        d p_t too
    δ_z       = d h_t * (n - h_{t-1}) * z (1 - z)
    δ_r       = δ_n * q               * r (1 - r)
    d q       = δ_n * r
    d h_{t-1} = d h_t * (1 - z)  +  W_hᵀ [δ_z; δ_r; d q]  +  what the loss takes from h_{t-1} itself

All that stands right of d h_t or δ_n in a δ is fixed by the pass through: the factors. On the way back the gates
lie in the order n, z, r, q, so that the three of one product are neighbours, the two that d h_t goes to, and the
two that δ_n goes to.
"""

import torch

from training.cells.fast.arithmetic import sigmoid_backward, tanh, tanh_backward
from training.cells.fast.tape import Layout, Tape


class GRUResetAfterTape(Tape):
    """See above. The gates and q are written down, n in the place of p."""

    linears = ("hidden_candidate_input", "update_gate", "reset_gate", "hidden_candidate_hidden")

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        hidden = layout.hidden
        self.n_TBH, zrq_TBG = self.new_sequence(), self.new_steps(3)
        zrq_TBH = zrq_TBG.chunk(3, dim=2)
        self.n, self.zrq = self.n_TBH.unbind(), self.by_step(zrq_TBG)
        self.zr = self.by_step(zrq_TBG[:, :, : 2 * hidden])
        self.z, self.r, self.q = map(self.by_step, zrq_TBH)

        d_a_SBG = self.new_block(4)
        d_gates_SBH = d_a_SBG.chunk(4, dim=2)
        self.d_nz, self.d_rq = map(self.side_by_side, d_a_SBG.chunk(2, dim=2))
        self.d_n_B1H, self.d_h_B1H = d_gates_SBH[0][:, :, None].unbind(), self.d_h[:, None]

        self.written = self.by_block(self.n_TBH, *zrq_TBH, self.h_TBH)
        self.scratch = self.in_block(*d_gates_SBH)
        self.inputs = self.add_product(["x"], self.u_TBK[:-1, :, :-hidden], d_a_SBG[:, :, :hidden], multiples=[1])
        self.recurrent = self.add_product(["xh", "xh", "h"], self.u_TBK, d_a_SBG[:, :, hidden:], multiples=[1, 1, 1])

    def prepare(self) -> None:
        """Every p."""
        self.inputs.forward_all(out=self.n_TBH)

    def step(self, t: int) -> None:
        """The other equations at the top."""
        self.recurrent.forward(t, from_zeros=self.is_from_zeros(t), out=self.zrq[t])
        self.zr[t].sigmoid_()
        tanh(self.n[t].addcmul_(self.r[t], self.q[t]), out=self.n[t])
        torch.lerp(self.h[t], self.n[t], self.z[t], out=self.h[t + 1])

    def factors(self, block: int) -> None:
        """Right of d h_t and δ_n."""
        n, z, r, q, h_before = self.written[block]
        d_n, d_z, d_r, d_q = self.scratch[block]
        tanh_backward(z, n, grad_input=d_n)
        sigmoid_backward(torch.sub(n, h_before, out=d_z), z, grad_input=d_z)
        sigmoid_backward(q, r, grad_input=d_r)
        d_q.copy_(r)

    def back(self, t: int, k: int) -> None:  # noqa: ARG002
        """δ of n and z, then of r and q."""
        self.d_nz[k].mul_(self.d_h_B1H)
        self.d_rq[k].mul_(self.d_n_B1H[k])

    def past(self, t: int, k: int) -> None:
        """The last equation."""
        self.d_h.addcmul_(self.d_h, self.z[t], value=-1)
        self.recurrent.add_back(k, to=self.d_h)
