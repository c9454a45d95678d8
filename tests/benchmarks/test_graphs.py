"""What the benchmark of window graphs compares and draws; nothing is timed for its own sake."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from benchmarks.graphs import gpu
from benchmarks.graphs.__main__ import CLOSE, OURS, Point, page, race
from benchmarks.graphs.picture import draw, main, read
from benchmarks.graphs.sides import Bound, Module, make_model, torch_module, torch_onnx
from export.lowering.fused import fused
from export.lowering.source import source_of
from export.lowering.unrolled import LONGEST_UNROLLED

KINDS = ("lstm", "gru", "gru-reset-after")


@pytest.mark.parametrize("kind", KINDS)
def test_peers_give_what_the_model_gives(kind: str) -> None:
    model = make_model(kind, hidden_size=6, window=4)
    windows = np.random.default_rng(0).standard_normal((3, 4, 1)).astype(np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(windows)).numpy()
    graphs = (fused(source_of(model), fold=False)[1].SerializeToString(), torch_onnx(model, 3))
    sides: list[Bound | Module] = [
        Bound(ort.InferenceSession(graph, providers=["CPUExecutionProvider"]), windows) for graph in graphs
    ]
    module = torch_module(model)
    assert (module is None) == (kind == "gru")
    if module is not None:
        sides.append(Module(module, windows))
    for side in sides:
        assert side.seconds(1) > 0
        assert np.abs(side.value() - expected).max() < CLOSE


class Clockwork:
    """A side that takes a second longer in every round."""

    def __init__(self, seconds: float, log: list[float]) -> None:
        self._seconds = seconds
        self._log = log

    def seconds(self, repeats: int) -> float:
        self._log.append(self._seconds)
        return self._seconds * repeats

    def value(self) -> np.ndarray:
        raise NotImplementedError


def test_sides_take_turns_and_each_begins_a_round() -> None:
    log: list[float] = []
    taken = race({"a": Clockwork(1, log), "b": Clockwork(2, log)}, 3)
    assert taken == {"a": [1, 1, 1], "b": [2, 2, 2]}
    assert log == [1, 2, 1, 2, 2, 1, 1, 2]  # the first two find out how often to run


def point(seconds: Mapping[str, list[float]], *, batch: int = 1, window: int = 5) -> Point:
    return Point(
        kind="lstm", hidden_size=50, window=window, batch=batch, graph="fused", seconds=seconds, operations=1000
    )


def test_a_ratio_is_that_of_the_same_rounds() -> None:
    """The machine was twice as slow in the last round, for both."""
    found = point({OURS: [1.0, 1.0, 2.0], "peer": [2.0, 2.0, 4.0], "slow": [9.0, 9.0, 9.0]})
    assert (found.best_peer, found.ratio) == ("peer", 0.5)


def table() -> str:
    points = [
        point({OURS: [1e-6 * window * batch], "peer": [2e-6 * window * batch]}, window=window, batch=batch)
        for window in (5, 32, 96)
        for batch in (1, 64)
    ]
    return "\n".join(page(points, 1e9, 1))


def test_the_page_tells_mean_and_worst() -> None:
    assert "geometric mean **0.500**, worst 0.500; 6 of 6 ≤ 1.02" in table()
    assert "| lstm, 50, 32, 64 | 2048 | 4096 | 1 | fused | peer | 0.500 |" in table()


def test_the_picture_shows_what_the_table_says() -> None:
    figure = draw(read(table(), cell="lstm", hidden_size=50), "title")
    left, centre, right = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["windows in a run", *["values in a window"] * 2]
    assert [axes.get_ylabel() for axes in figure.axes] == ["time for a window (µs)", *["time for a run (µs)"] * 2]
    legend = left.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [OURS, "peer"]
    assert left.lines[0].get_xydata().tolist() == [[1, 32], [64, 32]]  # type: ignore[union-attr]
    assert centre.lines[1].get_xydata().tolist() == [[5, 10], [32, 64], [96, 192]]  # type: ignore[union-attr]
    assert [centre.get_title(), right.get_title()] == ["1 window in a run", "64 windows in a run"]


@pytest.mark.parametrize(("window", "sides"), [(3, 3), (LONGEST_UNROLLED + 1, 0)])
def test_the_benchmark_for_gpus_can_be_tried_on_a_cpu(tmp_path: Path, window: int, sides: int) -> None:
    """Every side of it is held against torch; long windows have no unrolled graph to launch, capture or halve."""
    out = tmp_path / "gpu.md"
    shape = ["--kinds", "rnn", "--hidden", "4", "--windows", str(window), "--batches", "2", "--rounds", "1"]
    assert gpu.main(["--device", "cpu", *shape, "--out", str(out)]) == 0
    head, _, row = (line.strip("| ").split(" | ") for line in out.read_text().splitlines()[-3:])
    assert tuple(head) == gpu.COLUMNS
    found = dict(zip(head, row, strict=True))
    assert float(found["ours"]) > 0
    assert sum(found[name] != "–" for name in ("launched", "captured", "float16")) == sides


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("nothing", "no table"),
        (table(), "no row of gru, hidden size 50"),
    ],
)
def test_a_table_that_cannot_be_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "table.md").write_text(text)
    assert main(["--table", str(tmp_path / "table.md"), "--cell", "gru", "--out", str(tmp_path / "x.png")]) == 1
    assert message in capsys.readouterr().err
