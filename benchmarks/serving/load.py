"""Closed-loop load by h2load, in C: a Python client would be what is measured."""

import re
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.servers import Peer

PATH = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True, kw_only=True)
class Load:
    """What came of one measurement: calls a second, and the time of a call in microseconds."""

    calls_per_second: float
    p50_us: float
    p99_us: float
    server_cpu_us: float


def h2load(
    peer: Peer, body: bytes, *, connections: int, in_flight: int, seconds: float, core: int, folder: Path
) -> Load:
    """Calls on `connections`, each with so many in flight, for so long. Raises RuntimeError if any failed."""
    message, log = folder / "body", folder / "log"
    # A gRPC message: not compressed, its length, the message.
    message.write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)
    log.unlink(missing_ok=True)
    command = [
        "taskset", "-c", str(core), "h2load", "--clients", str(connections), "--max-concurrent-streams", str(in_flight),
        "--duration", f"{seconds:g}", "--warm-up-time", "1", "--data", str(message), "--log-file", str(log),
        "--header", "content-type: application/grpc", "--header", "te: trailers", f"http://{peer.target}{PATH}",
    ]  # fmt: skip
    before = peer.cpu_seconds()
    ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    cpu_seconds = peer.cpu_seconds() - before
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", ran.stdout)
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", ran.stdout)
    if counts is None or rate is None or any(int(count) for count in counts.groups()[1:]):
        raise RuntimeError(f"h2load against {peer.name}: {ran.stdout}{ran.stderr}")
    took = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    return Load(
        calls_per_second=float(rate.group(1)),
        p50_us=statistics.median(took),
        p99_us=took[int(0.99 * (len(took) - 1))],
        # The second of warming up is in it as well.
        server_cpu_us=1e6 * cpu_seconds / (float(rate.group(1)) * (seconds + 1)),
    )
