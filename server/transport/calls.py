"""What every RPC has around it: clock, count, errors to status codes."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter, time
from typing import Any, TypeVar

import grpc
from grpc.aio import ServicerContext
from prometheus_client import Counter, Histogram

from server.errors import RequestError
from server.metrics import UNKNOWN_MODEL, Metrics
from server.statistics import Statistics
from server.transport.status import REJECTED, STATUS, trailing_metadata

logger = logging.getLogger("nextvalue.transport")

# How much later than the caller a server may see a deadline.
ROUNDING_SHARE, ROUNDING_SECONDS = 0.01, 0.005

Context = ServicerContext[Any, Any]
Response = TypeVar("Response")
Function = TypeVar("Function", bound=Callable[..., object])


def begins_at_once(answer: Function) -> Function:
    """Mark a handler that awaits futures alone: it needs no task, and a transport of ours begins it without one."""
    answer.begins_at_once = True  # type: ignore[attr-defined]
    return answer


@dataclass(slots=True)
class Labels:
    """What a call is counted under; filled in as the request is understood."""

    model: str = UNKNOWN_MODEL
    version: str = ""
    # Of the version that is to predict; None for calls that are no predictions.
    statistics: Statistics | None = None


@dataclass(frozen=True)
class Failure:
    """The status of a call that was not answered, and what goes with it."""

    code: grpc.StatusCode
    details: str
    trailers: tuple[tuple[str, str], ...] = ()


class Calls:
    """Runs the work of one RPC and answers for it."""

    def __init__(self, metrics: Metrics, known_model: Callable[[str], bool]) -> None:
        self._metrics = metrics
        self._known_model = known_model
        # As many as there are series on the page.
        self._known_children: dict[tuple[str, str, str, grpc.StatusCode], tuple[Counter, Histogram]] = {}

    def labels(self, model: str) -> Labels:
        """Labels for a call about `model`; a name nobody has is counted as unknown."""
        return Labels(model) if self._known_model(model) else Labels()

    async def answer(self, rpc: str, context: Context, labels: Labels, work: Awaitable[Response]) -> Response:
        """Await `work`, and end the call with its status if it fails."""
        # A refusal is counted before it is sent: whoever has it finds it on the page.
        settled = await self.settle(rpc, context, labels, work)
        if isinstance(settled, Failure):
            await context.abort(settled.code, settled.details, settled.trailers)
        return settled

    async def settle(self, rpc: str, context: Context, labels: Labels, work: Awaitable[Response]) -> Response | Failure:
        """Await `work`; a RequestError becomes its status, anything else INTERNAL with the detail in the log."""
        started = perf_counter()
        budget = remaining_seconds(context)
        code = grpc.StatusCode.OK
        try:
            return await work
        except RequestError as error:
            code = STATUS[type(error)]
            if reason := REJECTED.get(type(error)):
                self._metrics.rejected.labels(labels.model, reason).inc()
            return Failure(code, str(error), trailing_metadata(error))
        except asyncio.CancelledError:
            # gRPC cancels the handler when the caller leaves and when its deadline passes.
            # A deadline travels rounded up, by as much as a hundredth; the caller gives up when its own has passed.
            code = grpc.StatusCode.CANCELLED
            late = min(ROUNDING_SHARE * budget + ROUNDING_SECONDS, budget / 2)
            if math.isfinite(budget) and remaining_seconds(context) <= late:
                code = grpc.StatusCode.DEADLINE_EXCEEDED
                self._metrics.rejected.labels(labels.model, "deadline").inc()
            raise
        except Exception:
            code = grpc.StatusCode.INTERNAL
            logger.exception("%s failed", rpc)
            return Failure(code, "internal error; the server's log has the detail")
        finally:
            self._count(rpc, labels, code, perf_counter() - started)

    def _count(self, rpc: str, labels: Labels, code: grpc.StatusCode, seconds: float) -> None:
        """The call has its status."""
        key = labels.model, labels.version, rpc, code
        children = self._known_children.get(key)
        if children is None:
            # Finding them by their labels takes longer.
            requests = self._metrics.requests.labels(labels.model, labels.version, rpc, code.name)
            children = requests, self._metrics.request_seconds.labels(labels.model, rpc)
            self._known_children[key] = children
        requests, request_seconds = children
        requests.inc()
        request_seconds.observe(seconds)
        if labels.statistics is not None:
            labels.statistics.ended(seconds, ok=code is grpc.StatusCode.OK, now=time())

    def tidy(self, has_left: Callable[[str, str], bool]) -> None:
        """Let go of the series of models and versions that have left the page."""
        self._known_children = {
            key: children for key, children in self._known_children.items() if not has_left(key[0], key[1])
        }


def remaining_seconds(context: Context) -> float:
    """Until the caller's deadline; infinite without one."""
    remaining: float | None = context.time_remaining()  # typeshed's stub forgets the None
    return math.inf if remaining is None else remaining


def deadline_of(context: Context) -> float:
    """The caller's deadline on the running loop's clock, seconds; infinite without one."""
    return asyncio.get_running_loop().time() + remaining_seconds(context)
