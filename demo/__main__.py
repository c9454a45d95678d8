"""python -m demo: fit, export, serve, predict, watch, stop. What it writes is under --out, which it empties first."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from demo.models import ARTICLE, REAL_SERIES, SEED_CELLS, STEP_CELLS, Fit, fits, seed_name, write_series
from nextvalue import Client, NextvalueError

SHOWN_FAMILIES = (
    "nextvalue_requests_total", "nextvalue_predictions_total", "nextvalue_phase_seconds_sum",
    "nextvalue_parity_checks_total", "nextvalue_graph_nodes", "nextvalue_model_info",
)  # fmt: skip
# How near the seed example must come, in its own units.
SEED_TOLERANCE = 0.05
SETTLE_SECONDS = 60.0
# Its presence says that the folder may be emptied.
MARK = ".demo"

console = Console(width=110)


class DemoError(Exception):
    """A step failed; the message says which."""


@dataclass(frozen=True)
class Running:
    """A server of the demo."""

    target: str
    metrics_url: str

    def metric_lines(self) -> list[str]:
        """The samples on the metrics page."""
        with urlopen(self.metrics_url, timeout=10) as page:  # noqa: S310 (our own server)
            return [line for line in page.read().decode().splitlines() if not line.startswith("#")]


def fit_and_export(fit: Fit, out: Path) -> str:
    """One model from series to artifact; returns the export's line."""
    run = out / "runs" / fit.name
    for command in (
        ["training", "fit", *fit.options, "--out", str(run), "--quiet"],
        ["export", "--run", str(run), "--models", str(out / "models"), "--name", fit.name],
    ):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DemoError(f"{fit.name}: python -m {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


@contextmanager
def serving(models: Path, log_path: Path) -> Iterator[Running]:
    """A server with the reference beside it, every run checked; SIGTERM and a clean exit at the end."""
    command = [
        sys.executable, "-m", "server", "--models", str(models), "--parity-share", "1",
        "--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0",
    ]  # fmt: skip
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        yield _await_ready(process, log_path)
    finally:
        process.terminate()
        status = process.wait(timeout=60)
    if status != 0:
        raise DemoError(f"the server ended with status {status}; see {log_path}")


def _await_ready(process: "subprocess.Popen[bytes]", log_path: Path) -> Running:
    give_up = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        log = log_path.read_text()
        ports = re.search(r"grpc=(\S+) metrics=(\S+)", log)
        if ports and re.search(r"nextvalue ready$", log, re.MULTILINE):
            return Running(ports[1], f"http://{ports[2]}/metrics")
        time.sleep(0.05)
    raise DemoError(f"the server did not become ready:\n{log_path.read_text()}")


def seed_table(client: Client) -> list[str]:
    """The article's table beside ours; returns what was too far off."""
    table = Table(title="after 45, 46, 47, 48, 49 the next five, and after 1000…1004 (difference transform)")
    for column in ("", "50", "51", "52", "53", "54", "1005…1009, worst error"):
        table.add_column(column, justify="right")
    table.add_row("the article's LSTM", *(f"{value:.3f}" for value in ARTICLE), "–")
    failures = []
    for cell in SEED_CELLS:
        near, far = (
            client.predict(seed_name(cell), [np.arange(start, start + 5)], horizon=5).values[0] for start in (45, 1000)
        )
        errors = [float(np.abs(near - np.arange(50, 55)).max()), float(np.abs(far - np.arange(1005, 1010)).max())]
        table.add_row(cell, *(f"{value:.3f}" for value in near), f"{errors[1]:.4f}")
        if cell in ("lstm", "gru") and max(errors) > SEED_TOLERANCE:
            failures.append(f"{cell}: off by {max(errors):.3f} on the seed example; the limit is {SEED_TOLERANCE}")
    console.print(table)

    steps = Table(title="fitted on runs with steps −3…3")
    for column in ("", "10, 12, 14, 16, 18 →", "9, 8, 7, 6, 5 →"):
        steps.add_column(column, justify="right")
    for cell in STEP_CELLS:
        values = client.predict(f"steps-{cell}", [[10, 12, 14, 16, 18], [9, 8, 7, 6, 5]]).values[:, 0]
        steps.add_row(cell, *(f"{value:.3f}" for value in values))
        if np.abs(values - [20, 4]).max() > SEED_TOLERANCE:
            failures.append(f"steps-{cell}: {values} is not within {SEED_TOLERANCE} of [20, 4]")
    console.print(steps)
    return failures


def real_table(out: Path) -> list[str]:
    """RMSE of the real series beside last value and AR(T); returns what lost to the last value."""
    table = Table(title="one step ahead on the test part, RMSE")
    for column in ("", "ours (GRU)", "last value", "AR(T)"):
        table.add_column(column, justify="right")
    failures = []
    for name in REAL_SERIES:
        rows = json.loads((out / "runs" / name / "report.json").read_text())["rows"]
        errors = {row["name"]: row["rmse"] for row in rows}
        autoregression = next(each for each in errors if each.startswith("AR("))
        ours, last, ar = (errors[each] for each in (rows[0]["name"], "last value", autoregression))
        table.add_row(name, f"{ours:.4g}", f"{last:.4g}", f"{ar:.4g} ({autoregression})")
        if ours >= last:
            failures.append(f"{name}: RMSE {ours:.4g} is no better than the last value's {last:.4g}")
    console.print(table)
    return failures


def predict_real(client: Client, out: Path) -> None:
    """The next values of the real series, over gRPC."""
    for name in REAL_SERIES:
        windows = np.load(out / "runs" / name / "samples.npz", allow_pickle=False)["window"]
        prediction = client.predict(name, windows[-1:], horizon=3)
        shown = ", ".join(f"{value:.2f}" for value in windows[-1, -3:, 0])
        after = ", ".join(f"{value:.2f}" for value in prediction.values[0])
        console.print(f"{name}: … {shown} → {after}  (version {prediction.version})")


def parity_result(server: Running) -> tuple[int, int]:
    """Wait until the queued checks are made; how many matched and how many did not."""
    give_up = time.monotonic() + SETTLE_SECONDS
    matches = mismatches = 0
    while time.monotonic() < give_up:
        before = (matches, mismatches)
        lines = [line for line in server.metric_lines() if line.startswith("nextvalue_parity_checks_total")]
        matches, mismatches = (
            sum(int(float(line.split()[-1])) for line in lines if f'result="{result}"' in line)
            for result in ("match", "mismatch")
        )
        if matches + mismatches and (matches, mismatches) == before:
            return matches, mismatches
        time.sleep(0.5)
    raise DemoError("the reference process checked nothing")


def worst_parity_error(log_path: Path) -> str:
    """The worst error of the live checks, as the server's own summary at its end gives it."""
    found = re.search(r"live parity: .*worst error (\S+) \((.*) of the limit\)", log_path.read_text())
    if not found:
        raise DemoError(f"{log_path}: the server gave no parity summary")
    return f"{found[1]} ({found[2]} of the limit)"


def main() -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="The whole path on real input.")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="emptied first (default: runs/demo)")
    out: Path = parser.parse_args().out
    try:
        return run(out)
    except (DemoError, NextvalueError) as error:
        console.print(f"demo failed: {error}", markup=False, highlight=False)
        return 1


def run(out: Path) -> int:
    """Every step; returns the exit status."""
    started = time.monotonic()
    if out.exists() and any(out.iterdir()) and not (out / MARK).exists():
        raise DemoError(f"--out is {out}, which holds something that is no earlier demo; choose an empty folder")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / MARK).write_text("made by python -m demo; the next one empties this folder\n")
    write_series(out / "data")
    todo = fits(out / "data")
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        done = pool.map(lambda fit: fit_and_export(fit, out), todo)
        for line in list(track(done, "fit, export", total=len(todo), console=console)):
            console.print(line, highlight=False, soft_wrap=True)

    log_path = out / "server.log"
    with serving(out / "models", log_path) as server:
        with Client(server.target) as client:
            failures = seed_table(client)
            failures += real_table(out)
            predict_real(client, out)
        matches, mismatches = parity_result(server)
        lines = server.metric_lines()
    console.print(f"live parity: {matches} runs match the PyTorch reference, {mismatches} do not")
    console.print("of the metrics page:")
    for line in lines:
        if line.startswith(SHOWN_FAMILIES) and 'model="co2"' in line:
            console.print("  " + line, highlight=False, markup=False)
    console.print(f"pictures: {out}/runs/*/loss.png and report.png")

    if mismatches:
        failures.append(f"{mismatches} parity mismatches")
    for failure in failures:
        console.print(f"demo failed: {failure}", markup=False)
    predictions = sum(float(line.split()[-1]) for line in lines if line.startswith("nextvalue_predictions_total"))
    console.print(
        f"served {len(todo)} models, {predictions:.0f} predictions over gRPC in {time.monotonic() - started:.0f} s; "
        f"worst parity error {worst_parity_error(log_path)}",
        soft_wrap=True,
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
