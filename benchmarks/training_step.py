"""One training step of our cells beside torch.nn's: forward, Huber loss, backward, Adam; one thread, one core.

    python -m benchmarks.training_step [--seconds 10] [--core 0] [--out benchmarks/results/training-step.md]

Ours is the fast path (training/cells/fast) under a linear head, theirs nn.LSTM or nn.GRU (batch_first) under the
same head; same windows, same loss, same optimiser. The two take turns, step by step, so that what else the machine
does falls on both, and what is measured is the process's time on the processor: on an idle machine that is the time
by the clock, on a shared one it leaves out the turns of others. The ratio is the median over pairs of neighbouring
steps. Beside them the named-gate cells, stepped as they are written. Writes a table and exits non-zero if a ratio
is above 1.0.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.machine import describe_machine
from training.cells import HAND_WRITTEN, TORCH, Cell
from training.cells.fast import final_state

MAX_RATIO = 1.0
RESULTS = Path(__file__).parent / "results" / "training-step.md"

# F, H, T, B: as short as the article's, a day's window of 30 minutes or so, and a long one with covariates.
SHAPES = ((1, 50, 5, 64), (1, 64, 32, 256), (8, 128, 96, 256))
PEERS = {"lstm": "nn.lstm", "gru": "nn.gru", "gru-reset-after": "nn.gru"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Milliseconds a step: every one of ours and of theirs, in pairs, and the median of the cells as written."""

    shape: tuple[int, int, int, int]
    kind: str
    ours_ms: list[float]
    peer_ms: list[float]
    cells_ms: float

    @property
    def ratio(self) -> float:
        """The median of ours / theirs over pairs of neighbouring steps."""
        return statistics.median(ours / peer for ours, peer in zip(self.ours_ms, self.peer_ms, strict=True))

    def cells(self) -> Iterator[str]:
        """The row of the table."""
        yield ", ".join(map(str, self.shape))
        yield self.kind
        yield f"{statistics.median(self.ours_ms):.3g}"
        yield f"{statistics.median(self.peer_ms):.3g}"
        yield f"{self.ratio:.2f}"
        yield f"{min(self.ours_ms) / min(self.peer_ms):.2f}"
        yield f"{self.cells_ms:.3g}"
        yield str(len(self.ours_ms))


class Fast(nn.Module):
    """A cell by the fast path."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x_BTF: Tensor) -> Tensor:
        """The last output, [B, H]."""
        return final_state(self.cell, x_BTF.transpose(0, 1)).h


class Stepped(nn.Module):
    """A cell as it is written."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x_BTF: Tensor) -> Tensor:
        """The last output, [B, H]."""
        state = self.cell.initial_state(x_BTF[:, 0])
        for x_BF in x_BTF.unbind(dim=1):
            state = self.cell(x_BF, state)
        return state.h


class Peer(nn.Module):
    """torch.nn's, as its users write it."""

    def __init__(self, recurrent: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x_BTF: Tensor) -> Tensor:
        """The last output, [B, H]."""
        outputs_BTH: Tensor = self.recurrent(x_BTF)[0]
        return outputs_BTH[:, -1]


def training_step(recurrent: nn.Module, hidden: int, x_BTF: Tensor, y_B1: Tensor) -> Callable[[], None]:
    """A function that does one step of a fit."""
    model = nn.Sequential(recurrent, nn.Linear(hidden, 1))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        nn.functional.huber_loss(model(x_BTF), y_B1).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def milliseconds(step: Callable[[], None]) -> float:
    """How long it keeps the processor."""
    started = time.process_time()
    step()
    return 1e3 * (time.process_time() - started)


def measure(shape: tuple[int, int, int, int], kind: str, seconds: float) -> Row:
    """Steps of ours and theirs in turn, for about so many seconds, then the cells as written for a fifth of that."""
    num_features, hidden, window, batch = shape
    torch.manual_seed(0)
    x_BTF, y_B1 = torch.randn(batch, window, num_features), torch.randn(batch, 1)
    modules = (
        Fast(HAND_WRITTEN[kind](num_features, hidden)),
        Peer(TORCH[PEERS[kind]](num_features, hidden, batch_first=True)),
        Stepped(HAND_WRITTEN[kind](num_features, hidden)),
    )
    ours, peer, cells = (training_step(module, hidden, x_BTF, y_B1) for module in modules)
    for step in (ours, peer, cells) * 3:
        step()
    pairs: list[tuple[float, float]] = []
    ends = time.perf_counter() + seconds
    while len(pairs) < 5 or time.perf_counter() < ends:
        pairs.append((milliseconds(ours), milliseconds(peer)))
    alone: list[float] = []
    ends = time.perf_counter() + seconds / 5
    while len(alone) < 3 or time.perf_counter() < ends:
        alone.append(milliseconds(cells))
    return Row(
        shape=shape,
        kind=kind,
        ours_ms=[pair[0] for pair in pairs],
        peer_ms=[pair[1] for pair in pairs],
        cells_ms=statistics.median(alone),
    )


def report(rows: list[Row]) -> str:
    """The table, in Markdown."""
    lines = [
        "# One training step: forward, Huber loss, backward, Adam (fused), one thread, float32",
        "",
        f"{describe_machine('torch')}. `python -m benchmarks.training_step`",
        "",
        "Ours is the fast path, torch.nn's is nn.LSTM or nn.GRU with batch_first; both take turns. Milliseconds on the",
        "processor, medians; the ratio is the median over pairs of neighbouring steps, then that of the fastest steps.",
        "",
        "| F, H, T, B | kind | ours, ms | torch.nn, ms | ratio | of the fastest | named-gate cells, ms | pairs |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(row.cells())} |" for row in rows),
        "",
        f"each ratio ≤ {MAX_RATIO}" if is_good(rows) else f"NOT each ratio ≤ {MAX_RATIO}",
        "",
    ]
    return "\n".join(lines)


def is_good(rows: list[Row]) -> bool:
    """Whether ours is nowhere slower."""
    return all(row.ratio <= MAX_RATIO for row in rows)


def main() -> int:
    """Measure, print, write, judge. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_step", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for the pairs of each row")
    parser.add_argument("--core", type=int, default=0, help="run on this core alone, where the system can do that")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the table goes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    rows = []
    for shape in SHAPES:
        for kind in PEERS:
            rows.append(measure(shape, kind, options.seconds))
            print(" | ".join(rows[-1].cells()), flush=True)
    table = report(rows)
    options.out.write_text(table)
    print(f"\n{table}")
    return 0 if is_good(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
