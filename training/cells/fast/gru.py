"""The GRU with the reset gate before the matmul, over a whole sequence: equations in training/cells/gru.py.

    a_t = W [1; x_t; h_{t-1}]          one product for r and z
    v_t = [1; x_t; r * h_{t-1}]
    n   = tanh(W_n v_t)
    h_t = h_{t-1} + z * (n - h_{t-1})

Back through time, with d v = ∂loss/∂v and δ_g = ∂loss/∂(what goes into gate g's σ or tanh):

    δ_z   = d h_t * (n - h_{t-1}) * z (1 - z)
    δ_n   = d h_t * z             * (1 - n²)
    d(rh) = W_nhᵀ δ_n                            ∂loss/∂(r * h_{t-1})
    δ_r   = d(rh) * h_{t-1}       * r (1 - r)
    d h_{t-1} = d h_t * (1 - z)  +  d(rh) * r  +  W_hᵀ [δ_r; δ_z]  +  what the loss takes from h_{t-1} itself

All that stands right of d h_t or d(rh) in δ is a factor fixed by the pass through. The gates lie in the order
r, z, n: the two of one product are neighbours, and so are the two gates that d h_t goes to.
"""

import torch

from training.cells.fast.arithmetic import sigmoid_backward, tanh, tanh_backward
from training.cells.fast.tape import Block, Layout, Tape


class GRUTape(Tape):
    """See above. Gates and r * h are written down."""

    linears = ("reset_gate", "update_gate", "hidden_candidate")

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        hidden = layout.hidden
        a_TBG, v_TBK = self.new_steps(3), self.new_inputs(layout.steps)
        self.h_TBH = self.u_TBK[:, :, -hidden:]
        self.gates_TBH = a_TBG.chunk(3, dim=2)
        self.rz = self.by_step(a_TBG[:, :, : 2 * hidden])
        self.r, self.z, self.n = map(self.by_step, self.gates_TBH)
        self.rh = v_TBK[:, :, -hidden:].unbind()

        d_a_SBG = self.new_block(3)
        self.d_gates_SBH = d_a_SBG.chunk(3, dim=2)
        self.d_r = self.d_gates_SBH[0].unbind()
        self.d_zn = d_a_SBG[:, :, hidden:].unflatten(2, (2, hidden)).unbind()
        self.d_h_B1H, self.d_rh = self.d_h[:, None], torch.empty_like(self.d_h)

        self.gates = self.new_product(["xh", "xh"], self.u_TBK, d_a_SBG[:, :, : 2 * hidden])
        self.candidate = self.new_product(["xh"], v_TBK, d_a_SBG[:, :, 2 * hidden :])

    def step(self, t: int) -> None:
        """The equations at the top."""
        from_zeros = self.starts_from_zeros(t)
        self.gates.forward(t, from_zeros=from_zeros, out=self.rz[t])
        self.rz[t].sigmoid_()
        torch.mul(self.r[t], self.h[t], out=self.rh[t])
        self.candidate.forward(t, from_zeros=from_zeros, out=self.n[t])
        tanh(self.n[t], out=self.n[t])
        torch.lerp(self.h[t], self.n[t], self.z[t], out=self.h[t + 1])

    def factors(self, block: Block) -> None:
        """Right of d h_t and d(rh), in the memory where δ will be."""
        r, z, n = (gate_TBH[block.steps] for gate_TBH in self.gates_TBH)
        d_r, d_z, d_n = (d_gate_SBH[block.scratch] for d_gate_SBH in self.d_gates_SBH)
        h_before = self.h_TBH[block.steps]
        sigmoid_backward(h_before, r, grad_input=d_r)
        sigmoid_backward(torch.sub(n, h_before, out=d_z), z, grad_input=d_z)
        tanh_backward(z, n, grad_input=d_n)

    def back(self, t: int, k: int) -> None:
        """δ of z and n. That of r goes by r * h: it is its factor, zero, where the past is zeros."""
        self.d_zn[k].mul_(self.d_h_B1H)

    def past(self, t: int, k: int) -> None:
        """d(rh), δ of r, and the last equation."""
        self.candidate.back(k, out=self.d_rh)
        self.d_r[k].mul_(self.d_rh)
        self.d_h.addcmul_(self.d_h, self.z[t], value=-1).addcmul_(self.d_rh, self.r[t])
        self.gates.add_back(k, to=self.d_h)
