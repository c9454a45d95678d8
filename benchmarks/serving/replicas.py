"""Three servers behind Envoy, and then all restarted under load: how calls are spread, and what becomes of each.

    python -m benchmarks.serving.replicas [--calls 3000] [--out benchmarks/results/replicas.md]

Servers, Envoy and callers share this machine, so no speed is written down. Needs Envoy: make envoy.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from nextvalue import Client
from tests.e2e.attempts import Attempt, outcome
from tests.e2e.envoy import FOUND, Envoy, envoy
from tests.e2e.replicas import Replica, replicas
from tests.e2e.restarts import restart_all
from tests.server.group import Callers
from tests.server.oracle import Oracle

RESULTS = Path(__file__).parents[1] / "results" / "replicas.md"
NUM_CALLERS = 4
PREDICT = "/nextvalue.v1.NextValue/Predict"
HEADER = (
    "what", "calls", "by replica", "furthest from the mean", "failed", "attempts that another server took over",
    "accepted and lost",
)  # fmt: skip


def row(what: str, calls: int, counts: Sequence[float], attempts: Sequence[Attempt] | None) -> str:
    """A line of the table; without Envoy nothing knows of attempts."""
    mean = sum(counts) / len(counts)
    found = Counter(outcome(each) for each in attempts or ())
    cells = [
        what,
        f"{calls:,}",
        " · ".join(f"{count:,.0f}" for count in counts),
        f"{max(abs(count - mean) for count in counts) / mean:.1%}",
        "0",  # callers that had an error would have ended this
        "–" if attempts is None else f"{found['not accepted']:,}",
        "–" if attempts is None else f"{found['lost']:,}",
    ]
    return f"| {' | '.join(cells)} |"


def by_server(attempts: Sequence[Attempt], found: Sequence[Replica]) -> list[float]:
    """Answers of each."""
    counts = Counter(each.server for each in attempts if outcome(each) == "answered")
    return [float(counts[each.target]) for each in found]


def steady(target: str, demo: Oracle, calls: int) -> None:
    """So many calls of one client, every answer checked."""
    generator = np.random.default_rng(0)
    with Client(target) as client:
        for _ in range(calls):
            windows = demo.random_windows(generator, 1)
            demo.assert_right(client.predict("demo", windows).values, demo.predict(windows))


def restarted(front: Envoy, found: Sequence[Replica], demo: Oracle, stack: ExitStack) -> int:
    """All servers one after another under load; how many calls were answered. Raises AssertionError if one failed."""
    callers = Callers(front.target, demo, NUM_CALLERS, connect=Client)
    try:
        restart_all(found, front, stack, "Predict")
    finally:
        callers.end()
    if front.cut():
        raise AssertionError(front.cut())
    return sum(callers.num_right)


def measure(models: Path, work: Path, calls: int) -> list[str]:
    """The lines of the table."""
    demo = Oracle(models / "demo" / "1")
    rows = []
    with ExitStack() as stack:
        found = stack.enter_context(replicas(models, stack=stack))
        addresses = "ipv4:" + ",".join(each.target for each in found)
        steady(addresses, demo, calls)
        counts = [each.counted("nextvalue_requests_total", rpc="Predict", code="OK") for each in found]
        rows.append(row("our client, an address for each (headless Service)", calls, counts, None))
        print(rows[-1], file=sys.stderr)
        with envoy(found, work) as front:
            steady(front.target, demo, calls)
        attempts = [each for each in front.attempts() if each.path == PREDICT]
        rows.append(row("our client, through Envoy", calls, by_server(attempts, found), attempts))
        print(rows[-1], file=sys.stderr)
        with envoy(found, work) as front:
            answered = restarted(front, found, demo, stack)
        attempts = [each for each in front.attempts() if each.path == PREDICT]
        what = f"{NUM_CALLERS} callers through Envoy, all three restarted one after another"
        rows.append(row(what, answered, by_server(attempts, found), attempts))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.replicas", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=3000, help="of each steady turn")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    options = parser.parse_args(arguments)
    if not FOUND:
        print("replicas: Envoy is not there: make envoy", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        subprocess.run([sys.executable, "-m", "tests.artifacts", str(models)], check=True)
        rows = measure(models, Path(folder), options.calls)
    lines = [
        "# Three servers, and all of them restarted",
        "",
        f"{describe_machine('onnxruntime', 'grpcio')}.",
        "",
        "Three servers, Envoy 1.40 (`deploy/envoy/envoy.yaml`) and the callers share these cores: this shows how calls",
        "are spread and that none is lost, and no speed. Every answer was checked; Envoy logs each attempt, and",
        "[tests/e2e/attempts.py](../../tests/e2e/attempts.py) says when one counts as lost. In the last line each",
        "server is away in turn for some seconds, so it answers less. `python -m benchmarks.serving.replicas`",
        "",
        f"| {' | '.join(HEADER)} |",
        f"|{'---|' * len(HEADER)}",
        *rows,
    ]
    options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
