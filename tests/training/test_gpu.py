"""A fit on a GPU: the same as on the CPU, faster.

`python -m pytest -m gpu tests/training` runs what needs one; the rest simulates it on the CPU.
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from export.__main__ import main as export
from tests.training.shared_fits import BATCH_SIZE, WINDOW, noisy_wave
from tests.training.test_workers import LIMITS, torchrun
from training.__main__ import main
from training.build import new_model
from training.cells import CELL_KINDS
from training.config import FitOptions
from training.fit import Fit
from training.model import ModelConfig
from training.run import load_run

HAS_GPU = torch.cuda.is_available()
EPOCHS = 12
ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not HAS_GPU, reason="torch finds no CUDA device")]


@pytest.fixture(autouse=True)
def _single_precision_is_single_precision() -> Iterator[None]:
    """No TF32: it rounds the factors of a product to 10 bits."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


# The words of newer torch where TF32 is switched as above.
pytestmark = pytest.mark.filterwarnings("ignore:Please use the new API settings to control TF32")


def new_fit(cell: str, precision: str, device: str) -> Fit:
    """EPOCHS of 10 steps on a noisy wave, with all that lies on the device: average, quantiles, optimiser."""
    parts = noisy_wave(9 * BATCH_SIZE + 27)
    config = ModelConfig(
        cell=cell,
        window=WINDOW,
        num_features=1,
        hidden_size=12,
        num_layers=2,
        transform="difference",
        intervals="quantile",
        levels=(0.9,),
    )
    model = new_model(config, parts.fit, seed=0)
    model.to(device, torch.float64 if precision == "float64" else torch.float32)
    options = FitOptions(
        epochs=EPOCHS,
        patience=EPOCHS,
        batch_size=BATCH_SIZE,
        average=0.9,
        precision=precision,
        device=device,
        threads=1,
    )
    return Fit(model, parts, options, seed=0)


def losses(fit: Fit) -> np.ndarray:
    """Train loss, validation loss and RMSE of every epoch."""
    while not fit.is_finished:
        fit.run_epoch()
    return np.array([[line.train_loss, line.validation_loss, line.validation_rmse] for line in fit.history])


# Relative. In double precision it is the same computation; in single precision, other kernels round differently, and
# 120 steps of AdamW carry that on.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4}


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="torch finds no CUDA device")
@pytest.mark.parametrize("precision", sorted(TOLERANCES))
@pytest.mark.parametrize("cell", CELL_KINDS)
def test_the_loss_curve_is_that_of_the_cpu(cell: str, precision: str) -> None:
    on_gpu = new_fit(cell, precision, "cuda")
    assert {tensor.device.type for tensor in on_gpu.model.state_dict().values()} == {"cuda"}
    found = losses(on_gpu)
    np.testing.assert_allclose(found, losses(new_fit(cell, precision, "cpu")), rtol=TOLERANCES[precision])
    assert found[-1, 0] < found[0, 0]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_GPU)])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_fit_goes_on_where_it_was_kept(cell: str, device: str) -> None:
    """A checkpoint is read on the CPU, wherever it goes from there."""
    whole = new_fit(cell, "float32", device)
    whole.run_epoch()
    kept = BytesIO()

    def keep() -> None:
        if whole.position == 4:
            torch.save(whole.state_dict(), kept)

    whole.run_epoch(keep)
    kept.seek(0)
    resumed = new_fit(cell, "float32", device)
    resumed.load_state_dict(torch.load(kept, weights_only=True, map_location="cpu"))
    tensors = [*resumed.model.parameters(), *resumed.state_dict()["averaged"]["weights"]]
    tensors += [state["exp_avg"] for state in resumed.state_dict()["optimiser"]["state"].values()]
    assert {tensor.device.type for tensor in tensors} == {device}
    np.testing.assert_allclose(losses(resumed), losses(whole), rtol=0 if device == "cpu" else 1e-5)
    resumed.restore_best()
    assert {parameter.device.type for parameter in resumed.model.parameters()} == {device}


@pytest.fixture(scope="module")
def seasonal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two waves and noise: a series with something to learn and an error that nothing goes below."""
    steps = np.arange(1200)
    noise = np.random.default_rng(0).normal(0, 4, len(steps))
    values = 100 + 20 * np.sin(steps / 24 * 2 * np.pi) + 8 * np.sin(steps / 7) + noise
    path = tmp_path_factory.mktemp("data") / "seasonal.csv"
    path.write_text("value\n" + "".join(f"{value:.3f}\n" for value in values))
    return path


@pytest.fixture
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)


@pytest.mark.usefixtures("_no_pictures")
@pytest.mark.parametrize(
    ("cell", "device"),
    [
        ("gru", "cpu"),
        *(pytest.param(cell, "cuda", marks=ON_GPU) for cell in ("lstm", "gru", "nn.lstm", "nn.gru")),
    ],
)
def test_mixed_precision_reaches_the_backtest_of_single_precision(
    cell: str, device: str, seasonal: Path, tmp_path: Path
) -> None:
    rows = {}
    curves = {}
    for precision in ("float32", "mixed"):
        out = tmp_path / precision
        options = ["--data", str(seasonal), "--cell", cell, "--window", "24", "--hidden", "24", "--epochs", "12"]
        where = ["--device", device, "--precision", precision, "--season", "0", "--out", str(out), "--quiet"]
        assert main(["fit", *options, *where]) == 0
        run = load_run(out)
        assert (run.config.fit.precision, run.config.fit.device) == (precision, device)
        rows[precision] = {row["name"]: row["rmse"] for row in run.backtest["rows"]}
        curves[precision] = (out / "metrics.jsonl").read_bytes()
    assert curves["mixed"] != curves["float32"], "mixed precision was not used"
    assert rows["mixed"][cell] <= 1.01 * rows["float32"][cell]
    assert rows["float32"][cell] < 0.8 * rows["float32"]["last value"], "nothing was learnt"


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="torch finds no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "mixed"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_fit_on_a_gpu_passes_the_gate(
    cell: str, precision: str, seasonal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(seasonal), "--cell", cell, "--window", "12", "--hidden", "16", "--epochs", "3"]
    where = ["--device", "cuda", "--precision", precision, "--out", str(tmp_path / "run"), "--quiet"]
    assert main(["fit", *options, *where]) == 0
    assert export(["--run", str(tmp_path / "run"), "--models", str(tmp_path / "models"), "--name", "gpu"]) == 0
    assert "worst parity error" in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="torch finds fewer than two CUDA devices")
def test_two_gpus_come_to_the_weights_of_one(seasonal: Path, tmp_path: Path) -> None:
    options = ["--data", str(seasonal), "--window", "12", "--hidden", "16", "--epochs", "5", "--device", "cuda"]
    command = ["fit", *options, "--precision", "float64", "--quiet", "--out"]
    done = torchrun(*command, str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert main([*command, str(tmp_path / "one")]) == 0
    states = [torch.load(tmp_path / name / "checkpoint.pt", map_location="cpu")["model"] for name in ("one", "two")]
    for name, weight in states[0].items():
        torch.testing.assert_close(states[1][name], weight, rtol=0, atol=LIMITS["float64"])
