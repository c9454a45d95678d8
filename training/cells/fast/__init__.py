"""The cells over a whole sequence, fast: the same numbers and the same gradients.

    outputs_TBH, state = run_layer(cell, x_TBF)          # every step's h, and the last state
    state = final_state(cell, x_TBF)                     # the last state alone

The cells remain the definition; here is how to run one over [T, B, F] and how its gradients come back:

- `product`      the gates' matrices as one: a_t = W [1; x_t; h_{t-1}], and its gradients
- `tape`         the loop over time and the loop back
- `rnn`, `lstm`, `gru`, `gru_reset_after`   a step of each kind, and the step back, with its equations
- `arithmetic`   the few operations they are made of
- `layer`        all of it as one differentiable operation

What makes it fast, most first: no graph of small operations, but one node whose gradients are written out by hand;
one matrix product a step, none for the zeros before the first; one product for ∂loss/∂W over hundreds of rows;
memory and its views kept from one training step to the next; tanh by way of σ.

The parameters are the cell's own, and gradients arrive at them as ever (fused optimisers, DDP, accumulation), at x
if it requires them, and at a given state. Differentiating twice is refused, and so is a second pass back through a
graph whose memory is in use again. Forward hooks on the gates do not run. Every device and floating type will do;
under torch.autocast the matrix products take its type, and all else, what the state carries first of all, stays
in the type of the weights. A cell keeps the memory of its last training step as long as it lives; without
gradients, only u = [1; x; h] is kept of all steps, T·B·(1 + F + H) numbers, and only for the call.
"""

from training.cells.fast.layer import final_state, run_layer

__all__ = ["final_state", "run_layer"]
