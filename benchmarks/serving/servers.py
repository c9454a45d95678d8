"""Servers to measure, one at a time, each pinned to a core and ended by its pid."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from benchmarks.startup import free_port
from server.pb import open_inference_pb2 as pb
from server.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub

READY_SECONDS = 120.0
PEERS = Path(__file__).parent / "peers"
TRITON_PORT = 7001  # as its start script has it


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A server that answers, and what it calls the model, its input and its output."""

    name: str
    pid: int
    port: int
    model: str
    input: str
    output: str

    @property
    def target(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def request(self, windows_NTF: NDArray[np.float32]) -> pb.ModelInferRequest:
        """A call with these windows, raw."""
        tensor = pb.ModelInferRequest.InferInputTensor(name=self.input, datatype="FP32", shape=windows_NTF.shape)
        return pb.ModelInferRequest(
            model_name=self.model, inputs=[tensor], raw_input_contents=[windows_NTF.astype("<f4").tobytes()]
        )

    def answer(self, windows_NTF: NDArray[np.float32]) -> NDArray[np.float32]:
        """What it makes of them, [N, 1]. Raises grpc.RpcError."""
        with grpc.insecure_channel(self.target) as channel:
            reply = GRPCInferenceServiceStub(channel).ModelInfer(self.request(windows_NTF), timeout=30)
        place = next(k for k, output in enumerate(reply.outputs) if output.name == self.output)
        output = reply.outputs[place]
        raw = reply.raw_output_contents
        found = np.frombuffer(raw[place], "<f4") if raw else np.array(output.contents.fp32_contents, np.float32)
        return found.reshape(output.shape)

    def cpu_seconds(self) -> float:
        """Processor time of the process and all below it so far."""
        total = 0.0
        for pid in _tree(self.pid):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


@contextmanager
def ours(models: Path, model: str, *, core: int | str, options: tuple[str, ...] = ()) -> Iterator[Peer]:
    """`python -m server`, reference off; `core` may be several, as taskset writes them."""
    port = free_port()
    command = [
        sys.executable, "-m", "server", "--models", str(models), "--grpc", f"127.0.0.1:{port}",
        "--metrics", "127.0.0.1:0", "--reference", "off", "--log-level", "warning", *options,
    ]  # fmt: skip
    with _running(command, core) as pid:
        yield _ready(Peer(name="ours", pid=pid, port=port, model=model, input="window", output="next"))


@contextmanager
def triton(script: Path, graph: Path, window: int, *, core: int) -> Iterator[Peer]:
    """Triton by its start script, `graph` with input x and output y."""
    with _running([str(script), str(graph), str(window)], core) as pid:
        yield _ready(Peer(name="Triton", pid=pid, port=TRITON_PORT, model="lstm", input="x", output="y"))


@contextmanager
def mlserver(python: Path, graph: Path, *, core: int) -> Iterator[Peer]:
    """Mlserver with its gRPC, one process, `graph` with input x and output y."""
    port = free_port()
    settings = {"host": "127.0.0.1", "http_port": free_port(), "grpc_port": port, "metrics_port": free_port()}
    model = {
        "name": "lstm",
        "implementation": "mlserver_model.OnnxModel",
        "parameters": {"uri": str(graph), "version": "1"},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0, "debug": False}))
        (folder / "model-settings.json").write_text(json.dumps(model))
        (folder / "mlserver_model.py").write_bytes((PEERS / "mlserver_model.py").read_bytes())
        with _running([str(python.with_name("mlserver")), "start", name], core) as pid:
            yield _ready(Peer(name="mlserver", pid=pid, port=port, model="lstm", input="x", output="y"))


@contextmanager
def kserve(python: Path, graph: Path, *, core: int) -> Iterator[Peer]:
    """KServe's gRPC server, one process, `graph` with input x and output y."""
    port = free_port()
    with _running([str(python), str(PEERS / "kserve_server.py"), str(graph), str(port)], core) as pid:
        yield _ready(Peer(name="kserve", pid=pid, port=port, model="lstm", input="x", output="y"))


@contextmanager
def _running(command: list[str], core: int | str) -> Iterator[int]:
    log = subprocess.DEVNULL if "BENCHMARK_LOG" not in os.environ else None
    process = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=log, stderr=log, start_new_session=True)
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ready(peer: Peer) -> Peer:
    """Wait until the model answers. Raises RuntimeError."""
    give_up = time.monotonic() + READY_SECONDS
    with grpc.insecure_channel(peer.target) as channel:
        stub = GRPCInferenceServiceStub(channel)
        while time.monotonic() < give_up:
            if not Path(f"/proc/{peer.pid}").exists():
                break
            with contextlib.suppress(grpc.RpcError):
                if stub.ModelReady(pb.ModelReadyRequest(name=peer.model), timeout=1, wait_for_ready=True).ready:
                    return peer
            time.sleep(0.1)
    raise RuntimeError(f"{peer.name} did not become ready; BENCHMARK_LOG=1 shows what it says")
