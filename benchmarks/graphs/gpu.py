"""Window graphs on a GPU beside cuDNN's and torch's own: windows a second.

    python -m benchmarks.graphs.gpu [--device cuda] [--kinds lstm,gru,gru-reset-after] [--hidden 50,256]
                                    [--windows 5,32] [--batches 1,64,4096] [--rounds 9]
                                    [--out benchmarks/results/graphs-gpu.md]

Ours are all lowerings that run on the provider whole, TF32 off, inputs and outputs bound to the device, each held
against the torch model in float64 first; the fastest in float32 stands in the column `ours`. `launched` and `captured`
are the unrolled graph with its kernels launched one by one, and as one CUDA graph; `float16` is the graph whose cells
compute in that, captured. `cuDNN` is nn.LSTM or nn.GRU, `eager` the cells as they are written, both in inference mode
with TF32 off. Every round ends with the device idle. With `--device cpu` the same code runs without a GPU, and so
without CUDA graphs, to try it.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from benchmarks.graphs.sides import Array, make_model, torch_module
from benchmarks.machine import describe_machine
from export.artifact.limits import HALF
from export.build import lower
from export.lowering.source import source_of
from export.lowering.unrolled import LONGEST_UNROLLED
from server.buckets import NO_GRAPH, run_options
from server.engine import session_options
from server.provider import CUDA, Provider, choose_provider
from server.session import CAPTURABLE

HERE = Path(__file__).parents[1]
ROUND_SECONDS = 0.05
CLOSE = 2e-5
RUNS_TO_WARM = 5
COLUMNS = (
    "cell, H, T, B",
    "ours",
    "lowering",
    "launched",
    "captured",
    "float16",
    "cuDNN",
    "eager",
    "time, ours / best of torch",
    "not whole on it",
)
# Sides of ours beside the lowerings' names.
CAPTURED, FLOAT16 = "captured", "float16"


class Served:
    """A graph in onnxruntime with its input and output bound to the device."""

    def __init__(self, graph: bytes, provider: Provider, windows_BTF: Array, *, capture: bool = False) -> None:
        """`capture`: as one CUDA graph, where there is CUDA. Raises RuntimeError if a node would run elsewhere."""
        captured = {"enable_cuda_graph": 1} if capture and provider.name == CUDA else {}
        self._session = ort.InferenceSession(
            graph, session_options(provider), providers=[(provider.name, provider.options | captured)]
        )
        self._options = run_options(1 if capture else NO_GRAPH)
        elsewhere = [
            part.ep_name for part in self._session.get_provider_graph_assignment_info() if part.ep_name != provider.name
        ]
        if elsewhere:
            raise RuntimeError(f"nodes on {', '.join(sorted(set(elsewhere)))}")
        device = "cuda" if provider.name == CUDA else "cpu"
        self._binding = self._session.io_binding()
        self._output = ort.OrtValue.ortvalue_from_shape_and_type([len(windows_BTF), 1], np.float32, device, 0)
        self._binding.bind_ortvalue_input("window", ort.OrtValue.ortvalue_from_numpy(windows_BTF, device, 0))
        self._binding.bind_ortvalue_output("next", self._output)

    def __call__(self) -> None:
        """One run."""
        self._session.run_with_iobinding(self._binding, self._options)

    def value(self) -> Array:
        """What the last run gave, [B, 1]."""
        found: Array = self._output.numpy()
        return found


class Module:
    """A torch module on the device."""

    def __init__(self, module: nn.Module, device: str, windows_BTF: Array) -> None:
        self._module = module.to(device)
        self._windows = torch.from_numpy(windows_BTF).to(device)
        self._last = torch.zeros(())

    @torch.inference_mode()
    def __call__(self) -> None:
        """One run."""
        self._last = self._module(self._windows)

    def value(self) -> Array:
        """What the last run gave, [B, 1]."""
        found: Array = self._last.cpu().numpy()
        return found


def _seconds(run: Callable[[], None], repeats: int, device: str) -> float:
    begun = time.perf_counter()
    for _ in range(repeats):
        run()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / repeats


def race(sides: dict[str, Served | Module], rounds: int, device: str) -> dict[str, float]:
    """The median seconds a run of each side, by turns."""
    repeats = {}
    for name, side in sides.items():
        _seconds(side, RUNS_TO_WARM, device)
        repeats[name] = max(1, round(ROUND_SECONDS / _seconds(side, RUNS_TO_WARM, device)))
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            taken[name].append(_seconds(side, repeats[name], device))
    return {name: statistics.median(found) for name, found in taken.items()}


def row(kind: str, hidden_size: int, window: int, batch: int, *, provider: Provider, rounds: int) -> str:
    """A line of the table. Raises RuntimeError if a side gives other values than the torch model."""
    device = "cuda" if provider.name == CUDA else "cpu"
    model = make_model(kind, hidden_size=hidden_size, window=window)
    windows_BTF = np.random.default_rng(0).standard_normal((batch, window, 1)).astype(np.float32)
    with torch.inference_mode():
        expected_B1 = model.double()(torch.from_numpy(windows_BTF).double()).numpy()
    model.float()
    ours: dict[str, Served | Module] = {}
    off_provider = []
    source = source_of(model)
    close = {}
    for name, (graph, proto) in lower(source, "float32" if window > LONGEST_UNROLLED else "float16").items():
        if name == "step":
            continue
        data, lowering = proto.SerializeToString(), graph.lowering
        try:
            if graph.precision == "float16":
                ours[FLOAT16] = Served(data, provider, windows_BTF, capture=True)
                close[FLOAT16] = HALF.relative_to_scale * source.target_scale
                continue
            ours[lowering] = Served(data, provider, windows_BTF)
            if lowering in CAPTURABLE:
                ours[f"{lowering}, {CAPTURED}"] = Served(data, provider, windows_BTF, capture=True)
        except Exception as error:  # noqa: BLE001 (onnxruntime raises classes of its own that share no base)
            off_provider.append(graph.lowering)
            print(f"{kind} {graph.lowering}: not on {provider.name}: {str(error).splitlines()[0]}", file=sys.stderr)
    torch_sides: dict[str, Served | Module] = {}
    module = torch_module(model)
    if module is not None:
        torch_sides["cuDNN"] = Module(module, device, windows_BTF)
    torch_sides["eager"] = Module(model, device, windows_BTF)
    for name, side in (ours | torch_sides).items():
        side()
        off = float(np.abs(side.value() - expected_B1).max())
        if not off <= close.get(name, CLOSE):
            raise RuntimeError(f"{kind}, {name}: off by {off:.3g}; nothing was timed")
    seconds = race(ours | torch_sides, rounds, device)
    best = min((name for name in ours if name != FLOAT16), key=seconds.__getitem__)
    peers = {name: seconds[name] for name in torch_sides}
    cells = [
        f"{kind}, {hidden_size}, {window}, {batch}",
        f"{batch / seconds[best]:.4g}",
        best,
        *(
            f"{batch / seconds[name]:.4g}" if name in ours else "–"
            for name in ("unrolled", f"unrolled, {CAPTURED}", FLOAT16)
        ),
        *(f"{batch / peers[name]:.4g}" if name in peers else "–" for name in ("cuDNN", "eager")),
        f"{seconds[best] / min(peers.values()):.3f}",
        ", ".join(off_provider) or "none",
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page. Exits with 1 where there is no such device."""

    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    parser = argparse.ArgumentParser(prog="python -m benchmarks.graphs.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try the benchmark")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=["lstm", "gru", "gru-reset-after"])
    parser.add_argument("--hidden", type=numbers, default=[50, 256], help="hidden sizes")
    parser.add_argument("--windows", type=numbers, default=[5, 32], help="values in a window")
    parser.add_argument("--batches", type=numbers, default=[1, 64, 4096], help="windows in a run")
    parser.add_argument("--rounds", type=int, default=9, help="turns of every side")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "graphs-gpu.md", help="the page to write")
    options = parser.parse_args(arguments)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        provider = choose_provider(options.device)
        device = torch.cuda.get_device_name() if options.device == "cuda" else "the CPU: a trial"
    except Exception as error:  # noqa: BLE001 (no GPU, in the words of whoever misses it)
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines = [
        "# Window graphs on a GPU",
        "",
        f"{device}; {describe_machine('onnxruntime', 'torch', 'numpy')}.",
        "",
        f"Windows a second, medians of {options.rounds} rounds.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    for kind in options.kinds:
        for hidden_size in options.hidden:
            for window in options.windows:
                for batch in options.batches:
                    lines.append(row(kind, hidden_size, window, batch, provider=provider, rounds=options.rounds))
                    print(lines[-1], file=sys.stderr)
                    options.out.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
