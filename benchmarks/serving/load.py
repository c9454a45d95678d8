"""Load by h2load, in C: a Python client would be what is measured."""

import re
import resource
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.servers import Peer

WARM_UP_SECONDS = 0.2
PATH = "/inference.GRPCInferenceService/ModelInfer"
HEADERS = ("--header", "content-type: application/grpc", "--header", "te: trailers")


@dataclass(frozen=True, kw_only=True)
class Load:
    """What came of one measurement: calls a second, and the time of a call in microseconds."""

    calls_per_second: float
    p50_us: float
    p99_us: float
    server_cpu_us: float


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What came of so many calls: calls a second, the server's processor time of one, h2load's share of a core."""

    calls_per_second: float
    server_cpu_us: float
    load_share: float


def h2load(
    peer: Peer, body: bytes, *, connections: int, in_flight: int, seconds: float, core: int, folder: Path
) -> Load:
    """Calls on `connections`, each with so many in flight, for so long. Raises RuntimeError if any failed."""
    log = folder / "log"
    log.unlink(missing_ok=True)
    arguments = ["--duration", _ms(seconds), "--warm-up-time", _ms(WARM_UP_SECONDS), "--log-file", str(log)]
    command = ["taskset", "-c", str(core), *_command(peer, body, connections, in_flight, folder), *arguments]
    before = peer.cpu_seconds()
    rate = _rate(peer, command, seconds + 60)
    cpu_seconds = peer.cpu_seconds() - before
    took = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    return Load(
        calls_per_second=rate,
        p50_us=statistics.median(took),
        p99_us=took[int(0.99 * (len(took) - 1))],
        # The time of warming up is in it as well.
        server_cpu_us=1e6 * cpu_seconds / (rate * (seconds + WARM_UP_SECONDS)),
    )


def h2load_calls(peer: Peer, body: bytes, *, calls: int, connections: int, in_flight: int, folder: Path) -> Counted:
    """Exactly so many calls, h2load on whatever core there is. Raises RuntimeError if any failed."""
    own, before = _children_cpu_seconds(), peer.cpu_seconds()
    rate = _rate(peer, [*_command(peer, body, connections, in_flight, folder), "--requests", str(calls)], 600)
    used, own = peer.cpu_seconds() - before, _children_cpu_seconds() - own
    return Counted(calls_per_second=rate, server_cpu_us=1e6 * used / calls, load_share=own * rate / calls)


def _command(peer: Peer, body: bytes, connections: int, in_flight: int, folder: Path) -> list[str]:
    message = folder / "body"
    # A gRPC message: not compressed, its length, the message.
    message.write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)
    amounts = ["--clients", str(connections), "--max-concurrent-streams", str(in_flight)]
    return ["h2load", *amounts, "--data", str(message), *HEADERS, f"http://{peer.target}{PATH}"]


def _rate(peer: Peer, command: list[str], limit_seconds: float) -> float:
    """Calls a second. Raises RuntimeError if any failed."""
    ran = subprocess.run(command, capture_output=True, text=True, timeout=limit_seconds, check=True)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", ran.stdout)
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", ran.stdout)
    if counts is None or rate is None or any(int(count) for count in counts.groups()[1:]):
        raise RuntimeError(f"h2load against {peer.name}: {ran.stdout}{ran.stderr}")
    return float(rate.group(1))


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f}ms"
