"""A Nextvalue server that answers, fails or waits as a test tells it to."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import HealthServicer
from numpy.typing import NDArray

from nextvalue.arrays import pack, unpack
from nextvalue.v1 import nextvalue_pb2 as pb
from nextvalue.v1.nextvalue_pb2_grpc import NextValueServicer, add_NextValueServicer_to_server

DEMO = pb.Model(
    name="demo",
    default_version=2,
    versions=[
        pb.ModelVersion(version=3, state=pb.ModelVersion.STATE_FAILED, reason="parity:\n0.5 off"),
        pb.ModelVersion(
            version=2,
            state=pb.ModelVersion.STATE_SERVING,
            labels=["default", "stable"],
            description=pb.ModelDescription(
                cell="gru",
                hidden_size=16,
                num_layers=1,
                window=5,
                features=["load", "hour"],
                transform="difference",
                max_horizon=64,
                stateful=True,
                provider="CPUExecutionProvider",
                direct_horizon=3,
                calendar=["day", "week"],
                scaling="series",
                num_series=2,
                intervals="conformal",
                levels=[0.5, 0.9],
                transition_depth=2,
                residual=True,
                output_depth=4,
                linear_skip=True,
                carry_horizon=24,
            ),
        ),
    ],
)


@dataclass(frozen=True)
class Failure:
    """A status to answer with once."""

    code: grpc.StatusCode
    details: str = "told to fail"
    pushback: str | None = None


def expected_values(windows: NDArray[np.float32], horizon: int) -> NDArray[np.float32]:
    """What the fake predicts [N, horizon]: it counts on from the target's last value."""
    targets = windows if windows.ndim == 2 else windows[..., 0]
    return np.asarray(targets[:, -1:] + np.arange(1, horizon + 1), dtype=np.float32)


KNOWN_SERIES = ("shop-a", "7")


def expected_ends(
    values: NDArray[np.float32], levels: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The ends [N, horizon, L] of the fake's intervals: 8 times the level below the value, 16 times above it."""
    distance = np.asarray(levels, np.float32) * 8
    return values[:, :, None] - distance, values[:, :, None] + 2 * distance


@dataclass
class FakeServer(NextValueServicer):
    """Answers calls after the failures it was told are used up.

    Attributes:
        failures: statuses for the next calls, in order.
        requests: every Predict that arrived, failed ones too.
        time_remaining: seconds each call had left when it arrived.
        refuse: the status for a request, by what is in it; None lets it through.
        reply: what to send instead of a prediction.
        authorizations: what each call said of its caller, None where it said nothing.
        arrived: set once a call is being held.
        left: set once a held call has ended, for whatever reason.
    """

    failures: deque[Failure] = field(default_factory=deque)
    requests: list[pb.PredictRequest] = field(default_factory=list)
    refuse: Callable[[pb.PredictRequest], Failure | None] | None = None
    reply: pb.PredictResponse | None = None
    time_remaining: list[float] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    health: HealthServicer = field(default_factory=HealthServicer)
    target: str = ""
    _released: threading.Event | None = None

    def hold(self) -> None:
        """Lets calls wait from now on, until the server stops."""
        self._released = threading.Event()

    def release(self) -> None:
        """Lets held calls go on."""
        if self._released is not None:
            self._released.set()

    def Predict(self, request: pb.PredictRequest, context: grpc.ServicerContext) -> pb.PredictResponse:  # noqa: N802
        self.requests.append(request)
        self._fail_or_hold(context)
        if self.refuse is not None and (failure := self.refuse(request)) is not None:
            _fail(failure, context)
        if self.reply is not None:
            return self.reply
        windows = unpack(request.windows, field="windows")
        values = expected_values(windows, request.horizon)
        predictions = pack(values)
        if request.windows.values:
            predictions = pb.FloatArray(shape=predictions.shape, values=np.frombuffer(predictions.raw_values, "<f4"))
        reply = pb.PredictResponse(
            model=request.model,
            version=int(request.version or 2),
            predictions=predictions,
            queue_time_ns=1_500_000,
            run_time_ns=250_000_000,
            num_unknown_series=sum(name not in KNOWN_SERIES for name in request.series),
        )
        if request.HasField("intervals"):
            reply.levels.extend(request.intervals.levels or [0.5, 0.9])
            lower, upper = expected_ends(values, list(reply.levels))
            reply.lower.CopyFrom(pack(lower))
            reply.upper.CopyFrom(pack(upper))
        return reply

    def ListModels(  # noqa: N802
        self,
        request: pb.ListModelsRequest,  # noqa: ARG002 -- it has no fields
        context: grpc.ServicerContext,
    ) -> pb.ListModelsResponse:
        self._fail_or_hold(context)
        return pb.ListModelsResponse(models=[DEMO])

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.Model:  # noqa: N802
        self._fail_or_hold(context)
        if request.model != DEMO.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model!r}")
        return DEMO

    def _fail_or_hold(self, context: grpc.ServicerContext) -> None:
        self.time_remaining.append(context.time_remaining())
        if self.failures:
            _fail(self.failures.popleft(), context)
        if self._released is not None:
            context.add_callback(self.left.set)
            self.arrived.set()
            self._released.wait(timeout=30)


class _Recorder(grpc.ServerInterceptor):
    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        metadata = dict(handler_call_details.invocation_metadata)
        self._fake.authorizations.append(metadata.get("authorization"))
        return continuation(handler_call_details)


def _fail(failure: Failure, context: grpc.ServicerContext) -> None:
    if failure.pushback is not None:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", failure.pushback),))
    context.abort(failure.code, failure.details)


@contextmanager
def serve() -> Iterator[FakeServer]:
    """A fake on a port of its own."""
    fake = FakeServer()
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=options, interceptors=[_Recorder(fake)])
        add_NextValueServicer_to_server(fake, server)
        health_pb2_grpc.add_HealthServicer_to_server(fake.health, server)
        fake.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield fake
        finally:
            fake.release()
            server.stop(grace=None).wait()
