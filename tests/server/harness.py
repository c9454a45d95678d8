"""Real servers, in this process and in one of their own, and what tests hold against them."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from nextvalue.v1 import nextvalue_pb2 as pb
from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub
from server.app import Server
from server.config import Config, parse
from server.engine import Engine, Session
from server.pb import open_inference_pb2 as oip
from server.pb.open_inference_pb2_grpc import GRPCInferenceServiceStub
from server.tensors import Tensors

# Polls end here: far beyond what any of them needs on a loaded machine.
LIMIT_SECONDS = 60.0
POLL_SECONDS = 0.01

# So that all of these tests can be run with either; read before a fixture clears the environment.
TRANSPORT = os.environ.get("NEXTVALUE_TRANSPORT", "http2")

_LISTENING = re.compile(r"listening grpc=\S+?:(\d+) metrics=\S+?:(\d+)")


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Poll until `condition` holds."""
    give_up = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < give_up, f"never happened: {what}"
        await asyncio.sleep(POLL_SECONDS)


def eventually_sync(condition: Callable[[], object], what: str) -> None:
    """Poll until `condition` holds, without a loop."""
    give_up = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < give_up, f"never happened: {what}"
        time.sleep(POLL_SECONDS)


def make_config(models: Path, **options: object) -> Config:
    """A server's options: free ports, no reference, and whatever the test names; None is left out."""
    defaults: dict[str, object] = {
        "grpc": "127.0.0.1:0",
        "metrics": "127.0.0.1:0",
        "reference": "off",
        "provider": "cpu",
        "transport": TRANSPORT,
        # Tests that do not change the folder need no look at it; those that do say how often, or ask for it.
        "poll_seconds": 0,
    }
    flags = {"models": models} | defaults | options
    return parse([f"--{name.replace('_', '-')}={value}" for name, value in flags.items() if value is not None], {})


def float_array(array: NDArray[np.float32], *, raw: bool = True) -> pb.FloatArray:
    if raw:
        return pb.FloatArray(shape=array.shape, raw_values=array.astype("<f4").tobytes())
    return pb.FloatArray(shape=array.shape, values=array.ravel().tolist())


def to_numpy(message: pb.FloatArray) -> NDArray[np.float32]:
    assert bool(message.raw_values) != bool(message.values)
    flat = np.frombuffer(message.raw_values, "<f4") if message.raw_values else np.array(message.values, np.float32)
    return flat.reshape(tuple(message.shape))


def int_array(array: NDArray[np.int64], *, raw: bool = True) -> pb.IntArray:
    if raw:
        return pb.IntArray(shape=array.shape, raw_values=array.astype("<i8").tobytes())
    return pb.IntArray(shape=array.shape, values=array.ravel().tolist())


def predict_request(
    model: str,
    windows: NDArray[np.float32],
    *,
    horizon: int = 0,
    future: NDArray[np.float32] | None = None,
    time_seconds: NDArray[np.int64] | None = None,
    series: Sequence[str] = (),
    levels: Sequence[float] | None = None,
    version: str = "",
    raw: bool = True,
) -> pb.PredictRequest:
    return pb.PredictRequest(
        model=model,
        version=version,
        windows=float_array(windows, raw=raw),
        horizon=horizon,
        future=None if future is None else float_array(future, raw=raw),
        time_seconds=None if time_seconds is None else int_array(time_seconds, raw=raw),
        series=series,
        intervals=None if levels is None else pb.Intervals(levels=levels),
    )


def infer_request(
    model: str,
    windows: NDArray[np.float32],
    *,
    horizon: int | None = None,
    raw: bool = True,
    version: str = "",
    **others: NDArray[Any],
) -> oip.ModelInferRequest:
    """`others` are further inputs by name, float32 or int64."""
    request = oip.ModelInferRequest(model_name=model, model_version=version)
    for name, array in {"window": windows, **others}.items():
        is_integer = array.dtype == np.int64
        tensor = request.inputs.add(name=name, datatype="INT64" if is_integer else "FP32", shape=array.shape)
        contents = tensor.contents.int64_contents if is_integer else tensor.contents.fp32_contents
        if raw:
            request.raw_input_contents.append(array.astype("<i8" if is_integer else "<f4").tobytes())
            tensor.ClearField("contents")
        else:
            contents.extend(array.ravel().tolist())
    if horizon is not None:
        request.parameters["horizon"].int64_param = horizon
    return request


def infer_outputs(reply: oip.ModelInferResponse) -> dict[str, NDArray[np.float32]]:
    """The outputs by name, in the order they came in."""
    assert all(output.datatype == "FP32" and not output.HasField("contents") for output in reply.outputs)
    return {
        output.name: np.frombuffer(data, "<f4").reshape(tuple(output.shape))
        for output, data in zip(reply.outputs, reply.raw_output_contents, strict=True)
    }


@dataclass(frozen=True)
class Refusal:
    """How a call failed."""

    code: grpc.StatusCode
    details: str
    trailers: Mapping[str, str | bytes]


async def refusal(call: Awaitable[object]) -> Refusal:
    """The status of a call that must fail."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return Refusal(error.code(), error.details() or "", dict(error.trailing_metadata()))
    raise AssertionError(f"the call was answered: {answer!r}")


@dataclass
class Running:
    """A server in this process, and a channel to it."""

    server: Server
    channel: grpc.aio.Channel
    _stopping: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Stop the server, once; whoever asks waits for the end."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self.server.stop())
        await asyncio.shield(self._stopping)

    @property
    def next_value(self) -> Any:
        return NextValueStub(self.channel)

    @property
    def inference(self) -> Any:
        return GRPCInferenceServiceStub(self.channel)

    @property
    def health(self) -> Any:
        return health_pb2_grpc.HealthStub(self.channel)

    async def health_status(self, service: str = "") -> str:
        reply = await self.health.Check(health_pb2.HealthCheckRequest(service=service))
        name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
        return name

    async def predict(
        self,
        model: str,
        windows: NDArray[np.float32],
        *,
        timeout_seconds: float = LIMIT_SECONDS,
        **options: Any,
    ) -> NDArray[np.float32]:
        request = predict_request(model, windows, **options)
        return to_numpy((await self.next_value.Predict(request, timeout=timeout_seconds)).predictions)

    def sample(self, name: str, **labels: str) -> float:
        """A value of the metrics page; 0 if it has none."""
        return self.server.metrics.registry.get_sample_value(name, labels) or 0.0

    def requests(self, rpc: str, code: str, model: str, version: str = "") -> float:
        return self.sample("nextvalue_requests_total", rpc=rpc, code=code, model=model, version=version)

    def engine(self, model: str) -> Engine:
        return self.server.repository.resolve(model, "").engine

    @contextmanager
    def held(self, model: str) -> "Iterator[HeldSession]":
        """Each run of the model waits until it is released; always released in the end."""
        engine = self.engine(model)
        session, rollouts = engine.sessions["window"], dict(engine.rollouts)
        held = engine.sessions["window"] = HeldSession(session)
        engine.rollouts |= {graph: HeldSession(rollout, held) for graph, rollout in rollouts.items()}
        try:
            yield held
        finally:
            held.release.set()
            engine.sessions["window"] = session
            engine.rollouts |= rollouts


@asynccontextmanager
async def started(models: Path, **options: object) -> AsyncIterator[Running]:
    """A server on this loop, its ports open; its models may still be loading."""
    server = Server(make_config(models, **options))
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        running = Running(server, channel)
        try:
            yield running
        finally:
            await running.stop()


@asynccontextmanager
async def serving(models: Path, **options: object) -> AsyncIterator[Running]:
    """A server on this loop, its models loaded."""
    async with started(models, **options) as running:
        await running.server.loaded()
        yield running


class StandIn(Session):
    """Stands in for a graph's session; subclasses say what it does."""

    def __init__(self, session: Session) -> None:  # no session of its own
        self.session = session

    def run(self, inputs: Tensors) -> Tensors:
        return self.session.run(inputs)

    def is_short(self, num_rows: int) -> bool:  # noqa: ARG002 (the interface)
        """Whatever it does, it does it on the engine's thread."""
        return False

    def nodes_by_provider(self) -> Counter[str]:
        return self.session.nodes_by_provider()


class HeldSession(StandIn):
    """Waits before each run until `release` is set, and remembers the batches; some wait for the same, and share."""

    def __init__(self, session: Session, other: "HeldSession | None" = None) -> None:
        super().__init__(session)
        self.release: threading.Event = other.release if other else threading.Event()
        self.batches: list[int] = other.batches if other else []

    def run(self, inputs: Tensors) -> Tensors:
        self.batches.append(len(inputs["window"]))
        assert self.release.wait(LIMIT_SECONDS)
        return self.session.run(inputs)


class FailingSession(StandIn):
    """Raises instead of running."""

    def run(self, inputs: Tensors) -> Tensors:  # noqa: ARG002 (the interface)
        raise RuntimeError("the secret detail")


class ShiftedSession(StandIn):
    """One output off by one: a graph that was altered."""

    def __init__(self, session: Session, output: str = "next") -> None:
        super().__init__(session)
        self.output = output

    def run(self, inputs: Tensors) -> Tensors:
        outputs = self.session.run(inputs)
        return outputs | {self.output: outputs[self.output] + np.float32(1)}


class ServerProcess:
    """`python -m server` as a user starts it; its log is collected."""

    def __init__(self, *options: str, environ: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environ or {})},
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.grpc_port = self.metrics_port = 0

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def await_line(self, pattern: str) -> "re.Match[str]":
        """The first log line that matches."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(match for line in list(self.lines) if (match := re.search(pattern, line)))
            assert found or self.process.poll() is None or self._reader.is_alive(), f"it ended:\n{self.log}"
            return bool(found)

        eventually_sync(look, f"a log line {pattern!r} in\n{self.log}")
        return found[0]

    def await_ports(self) -> None:
        match = self.await_line(_LISTENING.pattern)
        self.grpc_port, self.metrics_port = int(match[1]), int(match[2])

    def await_ready(self) -> None:
        self.await_ports()
        self.await_line(r" ready$")

    def page(self) -> str:
        """The metrics page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=LIMIT_SECONDS) as reply:
            text: str = reply.read().decode()
        return text

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit status; the whole log has been read."""
        status = self.process.wait(LIMIT_SECONDS)
        self._reader.join(LIMIT_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@contextmanager
def server_process(models: Path, *options: str, environ: Mapping[str, str] | None = None) -> Iterator[ServerProcess]:
    """A server process on free ports, killed in the end if it still runs."""
    ports = ["--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--provider", "cpu"]
    process = ServerProcess("--models", str(models), *ports, *options, environ=environ)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
        if process.process.stdout is not None and not process.process.stdout.closed:
            process.wait()
