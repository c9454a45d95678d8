"""Windows of many values: how long they take to export and to load, and how large their graphs are.

    python -m benchmarks.long_windows [--windows 512,2048] [--hidden 50] > benchmarks/results/long-windows.md

Each is fitted for a moment, exported by `python -m export` and loaded as the server loads it, with every digest and all
of golden.npz. Prints a table and exits non-zero if an export takes above 30 s, a load above 2 s, or a graph is larger
than 1.5 times the weights and 2 MB.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from export.artifact.folder import WEIGHTS, Artifact
from server.gate import LoadOptions, load_engine
from server.provider import choose_provider

MAX_EXPORT_SECONDS = 30.0
MAX_LOAD_SECONDS = 2.0
MAX_SHARE_OF_WEIGHTS = 1.5
MAX_FURTHER_BYTES = 2_000_000
CELLS = ("lstm", "gru")


@dataclass(frozen=True, kw_only=True)
class Long:
    """Seconds of export and load, and the bytes of each graph and of the weights."""

    name: str
    export_seconds: float
    load_seconds: float
    graph_bytes: dict[str, int]
    weight_bytes: int
    plan: str

    @property
    def is_within(self) -> bool:
        """Whether it keeps what is promised."""
        most = MAX_SHARE_OF_WEIGHTS * self.weight_bytes + MAX_FURTHER_BYTES
        return (
            self.export_seconds <= MAX_EXPORT_SECONDS
            and self.load_seconds <= MAX_LOAD_SECONDS
            and max(self.graph_bytes.values()) <= most
        )

    def cells(self) -> Iterator[str]:
        """The row of the table."""
        yield self.name
        yield f"{self.export_seconds:.1f}"
        yield f"{self.load_seconds:.2f}"
        yield ", ".join(f"{name} {size / 1000:.0f}" for name, size in self.graph_bytes.items())
        yield f"{self.weight_bytes / 1000:.0f}"
        yield self.plan


def measure(cell: str, window: int, hidden_size: int, folder: Path) -> Long:
    """Fit, export and load one."""
    name = f"{cell}-{window}"
    rows = np.arange(2 * window + 600)
    (folder / "wave.csv").write_text("value\n" + "".join(f"{value:.6f}\n" for value in np.sin(rows / 7) + rows % 3))
    fit = ["--data", str(folder / "wave.csv"), "--cell", cell, "--window", str(window), "--hidden", str(hidden_size)]
    fit += ["--epochs", "1", "--epoch-windows", "32", "--season", "0", "--validation", "100", "--test", "100"]
    models, run = folder / "models", folder / name
    _command("training", "fit", *fit, "--transform", "standardize", "--out", str(run), "--quiet")
    begun = time.perf_counter()
    said = _command("export", "--run", str(run), "--models", str(models), "--name", name)
    export_seconds = time.perf_counter() - begun
    artifact = Artifact(models / name / "1")
    begun = time.perf_counter()
    load_engine(artifact, choose_provider("cpu"), LoadOptions())
    load_seconds = time.perf_counter() - begun
    graphs = artifact.manifest.graphs
    return Long(
        name=f"{cell}, {window}",
        export_seconds=export_seconds,
        load_seconds=load_seconds,
        graph_bytes={each: artifact.manifest.files[graph.file].size for each, graph in graphs.items()},
        weight_bytes=artifact.manifest.files[WEIGHTS].size,
        plan=next(line for line in said.splitlines() if line.startswith("plan: ")).removeprefix("plan: "),
    )


def _command(*words: str) -> str:
    return subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True, text=True).stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_windows", description=__doc__.splitlines()[0])
    parser.add_argument("--windows", default="512,2048", help="values in a window")
    parser.add_argument("--hidden", type=int, default=50, help="hidden size")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = [
            measure(cell, int(window), options.hidden, Path(folder))
            for cell in CELLS
            for window in options.windows.split(",")
        ]
    print("# Long windows\n")
    print(f"{describe_machine('onnxruntime', 'torch')}; hidden size {options.hidden}.\n")
    print("| cell, values in a window | export, s | load, s | graphs, kB | weights, kB | plan |")
    print("|---|---|---|---|---|---|")
    for each in found:
        print(f"| {' | '.join(each.cells())} |")
    print(
        f"\nAsked: export ≤ {MAX_EXPORT_SECONDS:g} s, load ≤ {MAX_LOAD_SECONDS:g} s, each graph ≤ "
        f"{MAX_SHARE_OF_WEIGHTS} × weights + {MAX_FURTHER_BYTES / 1e6:g} MB."
    )
    return 0 if all(each.is_within for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
