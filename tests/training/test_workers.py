"""Many workers fit as one, and end as one."""

import gc
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from tests.training.forked import Group
from tests.training.shared_fits import (
    CASES,
    EPOCHS,
    STEPS_PER_EPOCH,
    Case,
    fit,
    fit_all,
    flat,
    resume_in_the_second_epoch,
)
from training import workers as workers_module
from training.__main__ import main
from training.errors import FitError, OptionError
from training.fit import Fit
from training.run import BACKTEST
from training.workers import Workers, join, report

ROOT = Path(__file__).parents[2]
# A machine with nothing else to do needs a tenth of this.
PATIENCE_SECONDS = 200


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The public command, by two workers."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, "-m", "training", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_shares_are_the_batch_and_their_weighted_means_its_mean(count: int, size: int) -> None:
    values = np.random.default_rng(0).normal(size=size)
    shares = [Workers(rank=rank, count=count).share(np.arange(size)) for rank in range(count)]
    own = [index for chosen, weight in shares if weight for index in chosen]
    assert sorted(own) == list(range(size))
    assert all(len(chosen) for chosen, _ in shares)
    mean = sum(values[chosen].mean() * weight for chosen, weight in shares) / count
    assert mean == pytest.approx(values.mean(), rel=1e-12)


@pytest.fixture(scope="module")
def found_by_two(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, torch.Tensor]:
    """What two processes came to, for every case."""
    folder = tmp_path_factory.mktemp("shared")
    group = Group(folder, fit_all, folder / "found.pt")
    assert group.join(PATIENCE_SECONDS) == [0, 0], group.said()
    kept = torch.load(folder / "found.pt", weights_only=True)
    assert kept["count"] == 2
    return dict(zip(CASES, kept["found"], strict=True))


LIMITS = {"float64": 1e-9, "float32": 1e-5}


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_two_workers_come_to_the_weights_of_one(case: Case, found_by_two: dict[Case, torch.Tensor]) -> None:
    """Every weight and every epoch's losses, after 200 steps on the same batches in shards."""
    alone = fit(case, Workers())
    assert alone.history[-1].step == EPOCHS * STEPS_PER_EPOCH == 200
    assert alone.history[-1].train_loss < alone.history[0].train_loss
    difference = (found_by_two[case] - flat(alone)).abs().max().item()
    # Not even the same bits, or the two were one.
    assert 0 < difference <= LIMITS[case.precision]


def test_three_workers_resume_to_the_same_bits(tmp_path: Path) -> None:
    """From three on it matters in which order gradients are added up, and DDP changes that after its first pass."""
    group = Group(tmp_path, resume_in_the_second_epoch, tmp_path / "found.pt", count=3)
    assert group.join(PATIENCE_SECONDS) == [0, 0, 0], group.said()
    kept = torch.load(tmp_path / "found.pt", weights_only=True)
    whole, resumed = kept["found"]
    assert kept["count"] == 3
    assert torch.equal(whole, resumed)


def small_fit(out: Path, *further: str) -> list[str]:
    options = ["--data", "counting", "--hidden", "4", "--epochs", "8", "--batch-size", "32", "--device", "cpu"]
    return ["fit", *options, "--checkpoint-seconds", "0", "--out", str(out), *further]


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run of two workers by the public command, and what they said."""
    out = tmp_path_factory.mktemp("runs") / "shared"
    return out, torchrun(*small_fit(out))


@pytest.mark.e2e
def test_the_first_worker_alone_talks_and_writes(
    shared_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, done = shared_run
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("AR(5)") == 1
    for line in ("data: ", "windows: ", "fit: "):
        assert sum(said.startswith(line) for said in done.stderr.splitlines()) == 1
    assert len((out / "metrics.jsonl").read_bytes().splitlines()) == 8
    assert (out / BACKTEST).exists()
    assert not list(out.glob(".*"))


def lines(run: Path) -> list[bytes]:
    path = run / "metrics.jsonl"
    return path.read_bytes().splitlines() if path.exists() else []


@pytest.mark.e2e
def test_when_a_worker_is_killed_all_end_and_resume_to_the_same_bits(
    shared_run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    whole, _ = shared_run
    out = tmp_path / "killed"
    group = Group(tmp_path, main, small_fit(out, "--quiet"))
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(lines(out)) < 2 and group.processes[1].is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    group.processes[1].kill()
    assert group.join(PATIENCE_SECONDS) == [1, -signal.SIGKILL]
    assert group.said() == "error: a worker ended before the fit was done; start all again with --resume\n"
    assert 2 <= len(lines(out)) < 8, "the fit ended before the worker was killed"

    resumed = Group(tmp_path, main, small_fit(out, "--quiet", "--resume"))
    assert resumed.join(PATIENCE_SECONDS) == [0, 0], resumed.said()
    assert (out / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert lines(out) == lines(whole)


def look_who_is_left(arguments: list[str]) -> int:
    """The command; 3 where DDP is there when the workers part: it may wait for a thread that wants Python's lock."""
    destroy = distributed.destroy_process_group
    left: list[type] = []

    def looking() -> None:
        left.extend(type(each) for each in gc.get_objects() if isinstance(each, DistributedDataParallel))
        destroy()

    distributed.destroy_process_group = looking  # type: ignore[assignment]
    return main(arguments) or 3 * bool(left)


def test_workers_let_go_of_what_they_share_before_they_part(tmp_path: Path) -> None:
    group = Group(tmp_path, look_who_is_left, small_fit(tmp_path / "run", "--quiet"))
    assert group.join(PATIENCE_SECONDS) == [0, 0], group.said()


def fail_in_the_second(arguments: list[str]) -> int:
    """The command, except that the second worker cannot take its fifth step."""
    step = Fit._step

    def failing(fit: Fit, chosen: object) -> None:
        if os.environ["RANK"] == "1" and fit.position == 4:
            raise FitError("the second worker has had enough")
        step(fit, chosen)  # type: ignore[arg-type]

    Fit._step = failing  # type: ignore[method-assign,assignment]
    return main(arguments)


def test_an_error_in_one_worker_ends_all_with_one_line(tmp_path: Path) -> None:
    group = Group(tmp_path, fail_in_the_second, small_fit(tmp_path / "run", "--quiet"))
    assert group.join(PATIENCE_SECONDS) == [1, 1]
    assert group.said() == "error: the second worker has had enough\n"


def test_an_error_of_all_workers_is_said_once(tmp_path: Path) -> None:
    group = Group(tmp_path, main, small_fit(tmp_path / "run", "--quiet", "--column", "nothing"))
    assert group.join(PATIENCE_SECONDS) == [1, 1]
    assert group.said().startswith("error: 'counting' has the one column 'value'")
    assert group.said().count("\n") == 1


@pytest.mark.e2e
@pytest.mark.slow
def test_torchrun_ends_with_an_error_that_all_workers_met(tmp_path: Path) -> None:
    done = torchrun(*small_fit(tmp_path / "run", "--quiet", "--hidden", "0"))
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said == ["error: hidden_size is 0; it must be at least 1"]


def test_what_all_workers_report_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report("alone")
    assert capsys.readouterr().err == "alone\n"
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=5))  # type: ignore[attr-defined]
    environment = {
        "WORLD_SIZE": "2",
        "RANK": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    report("the same error")
    report("the same error")
    assert capsys.readouterr().err == "the same error\n"


def test_workers_that_torchrun_did_not_start_all_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    report("an error")
    assert capsys.readouterr().err == "an error\n"


def test_more_workers_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=r"nproc-per-node is 2; there are 1 GPUs"), join("cuda"):
        pass


def test_a_bug_is_not_taken_for_a_lost_worker() -> None:
    assert workers_module._is_lost_worker(distributed.DistNetworkError("no answer"))
    assert workers_module._is_lost_worker(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"))
    assert not workers_module._is_lost_worker(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
