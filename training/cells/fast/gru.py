"""The GRU with the reset gate before the matmul, over a whole sequence: its equations are in training/cells/gru.py.

    a_t = W [1; x_t; h_{t-1}]          one product for r and z
    n   = tanh(W_n [1; x_t; r * h_{t-1}])               its product is doubled: tanh(a) = 2 σ(2a) - 1
    h_t = h_{t-1} + z * (n - h_{t-1})

Back through time, with d v = ∂loss/∂v and δ_g = ∂loss/∂(what goes into gate g's σ or tanh):

    δ_z       = d h_t * (n - h_{t-1}) * z (1 - z)
    δ_n       = d h_t * z             * (1 - n²)
    d (rh)    = W_nhᵀ δ_n                                               ∂loss/∂(r * h_{t-1})
    δ_r       = d (rh) * h_{t-1}      * r (1 - r)
    d h_{t-1} = d h_t * (1 - z)  +  d (rh) * r  +  W_hᵀ [δ_r; δ_z]  +  what the loss takes from h_{t-1} itself

All that stands right of d h_t or d (rh) in a δ is fixed by the pass through: the factors. The gates lie in the
order r, z, n, so that the two of one product are neighbours, and the two that d h_t goes to.
"""

import torch

from training.cells.fast.arithmetic import sigmoid_backward, tanh_backward, tanh_of_half_
from training.cells.fast.tape import Layout, Tape


class GRUTape(Tape):
    """See above. The gates and r * h are written down."""

    linears = ("reset_gate", "update_gate", "hidden_candidate")

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        hidden = layout.hidden
        a_TBG, v_TBK = self.new_steps(3), self.new_inputs(layout.steps)
        gates_TBH = a_TBG.chunk(3, dim=2)
        self.rz, self.rh = self.by_step(a_TBG[:, :, : 2 * hidden]), v_TBK[:, :, -hidden:].unbind()
        self.r, self.z, self.n = map(self.by_step, gates_TBH)

        d_a_SBG = self.new_block(3)
        d_gates_SBH = d_a_SBG.chunk(3, dim=2)
        self.d_r = d_gates_SBH[0].unbind()
        self.d_zn = self.side_by_side(d_a_SBG[:, :, hidden:])
        self.d_rh, self.d_h_B1H = torch.empty_like(self.d_h), self.d_h[:, None]

        self.written = self.by_block(*gates_TBH, self.h_TBH)
        self.scratch = self.in_block(*d_gates_SBH)
        self.gates = self.add_product(["xh", "xh"], self.u_TBK, d_a_SBG[:, :, : 2 * hidden], multiples=[1, 1])
        self.candidate = self.add_product(["xh"], v_TBK, d_a_SBG[:, :, 2 * hidden :], multiples=[2])

    def step(self, t: int) -> None:
        """The equations at the top."""
        from_zeros = self.is_from_zeros(t)
        self.gates.forward(t, from_zeros=from_zeros, out=self.rz[t])
        self.rz[t].sigmoid_()
        torch.mul(self.r[t], self.h[t], out=self.rh[t])
        self.candidate.forward(t, from_zeros=from_zeros, out=self.n[t])
        tanh_of_half_(self.n[t])
        torch.lerp(self.h[t], self.n[t], self.z[t], out=self.h[t + 1])

    def factors(self, block: int) -> None:
        """Right of d h_t and d (rh)."""
        r, z, n, h_before = self.written[block]
        d_r, d_z, d_n = self.scratch[block]
        sigmoid_backward(h_before, r, grad_input=d_r)
        sigmoid_backward(torch.sub(n, h_before, out=d_z), z, grad_input=d_z)
        tanh_backward(z, n, grad_input=d_n)

    def back(self, t: int, k: int) -> None:  # noqa: ARG002
        """δ of z and n. That of r comes by r * h: where the past is zeros, it is its factor, which is zero."""
        self.d_zn[k].mul_(self.d_h_B1H)

    def past(self, t: int, k: int) -> None:
        """What r * h takes, δ of r, and the last equation."""
        self.candidate.back(k, out=self.d_rh)
        self.d_r[k].mul_(self.d_rh)
        self.d_h.addcmul_(self.d_h, self.z[t], value=-1).addcmul_(self.d_rh, self.r[t])
        self.gates.add_back(k, to=self.d_h)
