"""A fit that was ended anywhere goes on to the same bits."""

import copy
import signal
from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import torch
from matplotlib.figure import Figure

from tests.training import killed
from training.__main__ import main
from training.build import new_model
from training.config import FitOptions
from training.data import DataOptions, Parts, SplitOptions, load, split_windows
from training.fit import EpochMetrics, Fit
from training.model import ModelConfig
from training.run import BACKTEST

EPOCHS = 4


@pytest.fixture(scope="module")
def parts() -> Parts:
    return split_windows(load(DataOptions(source="counting")), SplitOptions(), window=5)


def tiny_fit(parts: Parts, **model: object) -> Fit:
    """Three epochs of four steps, the last of each a shorter batch."""
    default: dict[str, object] = {"cell": "gru", "window": 5, "num_features": 1, "hidden_size": 3, "num_layers": 1}
    config = msgspec.convert(default | {"transform": "difference"} | model, ModelConfig)
    options = FitOptions(epochs=3, batch_size=200, average=0.8, patience=2, learning_rate=0.05)
    return Fit(new_model(config, parts.fit, seed=1), parts, options, seed=1)


def finish(fit: Fit, after_step: Callable[[], None] = lambda: None) -> Fit:
    while not fit.is_finished:
        fit.run_epoch(after_step)
    return fit


def in_bytes(state: object) -> bytes:
    buffer = BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def same(one: object, other: object) -> bool:
    """Whether two states are equal, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize(
    "model",
    [
        {"intervals": "quantile", "levels": [0.9]},
        {"cell": "lstm", "num_layers": 2, "residual": True},
        {"cell": "nn.lstm"},
    ],
    ids=lambda model: str(model.get("cell", "gru")),
)
def test_the_state_between_any_two_steps_is_all_there_is(parts: Parts, model: dict[str, object]) -> None:
    whole = tiny_fit(parts, **model)
    states: list[bytes] = []
    finish(whole, lambda: states.append(in_bytes(whole.state_dict())))
    assert len(states) == 3 * 4
    end = copy.deepcopy(whole.state_dict())
    whole.restore_best()
    for position, stored in enumerate(states):
        resumed = tiny_fit(parts, **model)
        state = torch.load(BytesIO(stored), weights_only=True)
        resumed.load_state_dict(state)
        assert same(state, resumed.state_dict())
        assert resumed.position == position % 4 + 1
        finish(resumed)
        assert same(end, resumed.state_dict())
        resumed.restore_best()
        assert same(whole.model.state_dict(), resumed.model.state_dict())


def test_states_are_told_apart(parts: Parts) -> None:
    """The comparison above fails where one weight differs in its last bit, or one number of the optimiser's."""
    fit = finish(tiny_fit(parts))
    state = copy.deepcopy(fit.state_dict())
    assert same(state, fit.state_dict())
    weight = state["model"]["head.point.weight"]
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(10.0))
    assert not same(state, fit.state_dict())
    state = copy.deepcopy(fit.state_dict())
    state["optimiser"]["state"][0]["step"] += 1
    assert not same(state, fit.state_dict())


OPTIONS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "averaged": (
        "--cell",
        "gru",
        "--average",
        "0.9",
        "--intervals",
        "quantile",
        "--weight-decay",
        "0.01",
        "--augment",
        "0.5",
    ),
}


def arguments(out: Path, kind: str, *further: str) -> list[str]:
    small = ["fit", "--data", "counting", "--hidden", "4", "--batch-size", "64", "--epochs", str(EPOCHS), "--quiet"]
    return [*small, *OPTIONS[kind], "--device", "cpu", "--checkpoint-seconds", "0", "--out", str(out), *further]


@pytest.fixture(scope="module", autouse=True)
def _no_pictures() -> object:
    """Drawing takes longer than these fits, here and in the resumed halves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that nobody disturbed, by kind."""
    runs = {kind: tmp_path_factory.mktemp("whole") / kind for kind in OPTIONS}
    for kind, out in runs.items():
        assert main(arguments(out, kind)) == 0
    return runs


def metrics(run: Path) -> list[EpochMetrics]:
    return [msgspec.json.decode(line, type=EpochMetrics) for line in (run / "metrics.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize(
    ("place", "kind", "lines_left"),
    [
        (killed.before_the_first_checkpoint, "plain", None),
        (killed.between_checkpoint_and_end_of_the_epoch, "plain", 2),
        (killed.between_checkpoint_and_end_of_the_epoch, "averaged", 2),
        (killed.between_checkpoint_and_metrics, "averaged", 2),
        (killed.while_a_checkpoint_is_written, "plain", 2),
        (killed.during_the_backtest, "averaged", EPOCHS),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_kill_9_then_resume_gives_the_bits_of_a_fit_left_alone(
    whole_runs: dict[str, Path],
    tmp_path: Path,
    place: Callable[[], None],
    kind: str,
    lines_left: int | None,
) -> None:
    out, whole = tmp_path / "run", whole_runs[kind]
    # The first checkpoint is an epoch's, or one of every step.
    seconds = ("--checkpoint-seconds", "30") if place is killed.before_the_first_checkpoint else ()
    assert killed.killed_fit(place, arguments(out, kind, *seconds)) == -signal.SIGKILL
    assert not (out / BACKTEST).exists()
    if lines_left is None:
        assert [path.name for path in out.iterdir()] == ["config.json"]
    else:
        assert len(metrics(out)) == lines_left

    assert main(arguments(out, kind, "--resume")) == 0
    assert (out / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert (out / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert (out / BACKTEST).read_bytes() == (whole / BACKTEST).read_bytes()
    assert [line.epoch for line in metrics(out)] == list(range(1, EPOCHS + 1))
    steps = [line.step for line in metrics(out)]
    assert all(before < after for before, after in pairwise(steps))
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_killed_places_leave_what_they_say(tmp_path: Path) -> None:
    """In mid-epoch is what it says: the checkpoint stands between two steps of the third epoch."""
    out = tmp_path / "run"
    assert killed.killed_fit(killed.between_checkpoint_and_end_of_the_epoch, arguments(out, "plain")) != 0
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    assert (len(state["history"]), state["position"]) == (2, 3)


def test_a_fit_killed_before_it_wrote_anything_leaves_no_obstacle(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".config.json.4711.tmp").write_bytes(b'{"schema')
    assert main(arguments(out, "plain")) == 0
    assert not list(out.glob(".*"))


def test_how_often_to_keep_the_state_cannot_be_negative(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path / "run", "plain", "--checkpoint-seconds", "-1")) == 1
    assert capsys.readouterr().err == "error: checkpoint_seconds is -1.0; it must be at least 0\n"
