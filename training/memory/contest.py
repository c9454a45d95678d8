"""One cell learns the adding problem of one length within a budget of steps.

Shapes: B sequences, T steps.
"""

import math
import time
from collections.abc import Callable

import msgspec
import torch
from torch import Tensor, nn

from training.cells import HAND_WRITTEN
from training.errors import OptionError
from training.memory.adding import NUM_CHANNELS, SHORTEST, adding_problem
from training.memory.chrono import set_time_scales
from training.stack import CellStack

# A mean squared error up to this counts as remembering: one that keeps only the second value is off by 1/12.
REMEMBERS_MSE = 0.01
EVALUATION_BATCH = 500


class MemoryOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same budget and settings for every kind and length. Raises OptionError naming field, value and limit.

    Adam's rate falls linearly from `learning_rate` to nothing over `steps`; gradients longer than `clip_norm` are
    cut. `held_out` sequences, the same throughout, tell the error `evaluations` times.
    """

    cells: tuple[str, ...] = ("rnn", "lstm", "gru")
    lengths: tuple[int, ...] = (50, 100, 200)
    steps: int = 1500
    batch_size: int = 64
    hidden_size: int = 64
    learning_rate: float = 0.01
    clip_norm: float = 1.0
    seed: int = 0
    held_out: int = 2000
    evaluations: int = 50
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name in ("steps", "batch_size", "hidden_size", "held_out", "evaluations", "threads"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be above 0 and finite")
        if not 0 <= self.seed < 2**63:
            raise OptionError(f"seed is {self.seed}; it must be from 0 to 2**63 - 1")
        for name, given in (("cells", self.cells), ("lengths", self.lengths)):
            if not given or len(set(given)) != len(given):
                raise OptionError(f"{name} is {','.join(map(str, given))!r}; it must name at least one, and each once")
        for cell in self.cells:
            if cell not in HAND_WRITTEN:
                raise OptionError(f"cells holds {cell!r}; it must be one of {', '.join(HAND_WRITTEN)}")
        for length in self.lengths:
            if length < SHORTEST:
                raise OptionError(f"lengths holds {length}; it must be at least {SHORTEST}")


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The mean squared error on the held-out sequences after so many steps."""

    step: int
    mse: float


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """How one cell did at one length, in how much processor time; `scores` by steps, the first before any."""

    cell: str
    length: int
    num_parameters: int
    cpu_seconds: float
    scores: list[Score]

    @property
    def mse(self) -> float:
        """The error at the end of the budget."""
        return self.scores[-1].mse

    @property
    def remembers(self) -> bool:
        """Whether the error at the end counts as remembering."""
        return self.mse <= REMEMBERS_MSE

    @property
    def first_step(self) -> int | None:
        """The first step scored at which it remembered; None where there was none."""
        return next((score.step for score in self.scores if score.mse <= REMEMBERS_MSE), None)


class Adder(nn.Module):
    """A layer of hand-written cells, and the sum read from its last output by one linear layer."""

    def __init__(self, cell: str, hidden_size: int, length: int) -> None:
        super().__init__()
        self.stack = CellStack(cell, NUM_CHANNELS, hidden_size, num_layers=1, transition_depth=1, residual=False)
        self.head = nn.Linear(hidden_size, 1)
        for cells in self.stack.cells():
            set_time_scales(cells[0], length)

    def forward(self, x_BT2: Tensor) -> Tensor:
        """The sum, [B, 1]."""
        sum_B1: Tensor = self.head(self.stack(x_BT2))
        return sum_B1


def run_trial(
    cell: str, length: int, options: MemoryOptions, after_step: Callable[[int, float], None] | None = None
) -> Trial:
    """Fit a new cell for `options.steps` steps; `after_step` hears the step and the last held-out error.

    Weights and sequences follow from the seed and the length, and the sequences are the same for every kind.
    """
    started = time.process_time()
    generator = torch.Generator().manual_seed(options.seed)
    held_out = adding_problem(options.held_out, length, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = Adder(cell, options.hidden_size, length)
    optimiser = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(
        optimiser, start_factor=1.0, end_factor=1 / options.steps, total_iters=options.steps
    )
    scores = [Score(step=0, mse=_mean_squared_error(model, *held_out))]
    for step in range(1, options.steps + 1):
        x_BT2, target_B1 = adding_problem(options.batch_size, length, generator)
        optimiser.zero_grad()
        nn.functional.mse_loss(model(x_BT2), target_B1).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
        optimiser.step()
        schedule.step()
        if _is_scored(step, options):
            scores.append(Score(step=step, mse=_mean_squared_error(model, *held_out)))
        if after_step is not None:
            after_step(step, scores[-1].mse)
    return Trial(
        cell=cell,
        length=length,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        cpu_seconds=time.process_time() - started,
        scores=scores,
    )


def _is_scored(step: int, options: MemoryOptions) -> bool:
    """`evaluations` steps spread evenly, the last among them."""
    return step * options.evaluations // options.steps > (step - 1) * options.evaluations // options.steps


@torch.no_grad()
def _mean_squared_error(model: Adder, x_BT2: Tensor, target_B1: Tensor) -> float:
    squares = 0.0
    for start in range(0, len(target_B1), EVALUATION_BATCH):
        some = slice(start, start + EVALUATION_BATCH)
        squares += (model(x_BT2[some]) - target_B1[some]).square().sum().item()
    return squares / len(target_B1)
