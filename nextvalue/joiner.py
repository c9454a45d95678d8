"""The calls of an `AsyncClient`, joined: the event loop's side of `nextvalue.joining`."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise

import grpc

from nextvalue.calls import check_timeout, pushback_of
from nextvalue.errors import Cancelled, DeadlineExceeded, NextvalueError, from_rpc_error
from nextvalue.joined import joined, kind_of, rows_of, size_of
from nextvalue.joining import JoinableCall, JoinQueue, Message
from nextvalue.messages import PredictExchange
from nextvalue.results import Prediction
from nextvalue.unknown_series import UnknownSeries
from nextvalue.v1 import nextvalue_pb2 as pb

# Longest wait for company. Behind a server that answers within it nobody notices; behind one that hangs, or is far
# away, calls go in further messages instead of running out of time.
MAX_WAIT_SECONDS = 0.05
# And at most this share of a call's own time.
MAX_WAIT_SHARE = 0.5
# What any gRPC server receives unless told otherwise, whatever this client may send.
MAX_JOINED_BYTES = 4 * 1024 * 1024
# Names, shapes and tags beside the rows.
OVERHEAD_BYTES = 1024

# Statuses that may be about one caller's rows: wrong values, a prediction that is no number, a size.
PERSONAL = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})

# Called before a retry with what failed and how long the wait will be, seconds.
BeforeRetry = Callable[[grpc.RpcError, float], None]
# Sends a request and awaits the reply, retries included, for so many seconds.
Send = Callable[[pb.PredictRequest, float, BeforeRetry | None], Awaitable[pb.PredictResponse]]


@dataclass(eq=False, kw_only=True, slots=True)
class _Caller(JoinableCall):
    """A call with what its caller asked and awaits."""

    exchange: PredictExchange
    answer: "asyncio.Future[Prediction]"


class Joiner:
    """Joins calls that are alike while an RPC is in flight.

    Args:
        send: see `Send`; raises a `NextvalueError` if there is no reply.
        max_windows: most windows in a joined message.
        max_in_flight: RPCs of a kind in flight before calls wait for company.
        max_message_bytes: largest message the client sends or receives.
    """

    def __init__(self, send: Send, *, max_windows: int, max_in_flight: int, max_message_bytes: int) -> None:
        self._send = send
        self._queue: JoinQueue[_Caller] = JoinQueue(
            max_windows=max_windows,
            max_bytes=min(max_message_bytes, MAX_JOINED_BYTES) - OVERHEAD_BYTES,
            max_in_flight=max_in_flight,
        )
        self._unknown_series = UnknownSeries()
        self._flushing: set[Hashable] = set()
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}
        # Callers that wait, and one timer for the deadlines of all: most are answered long before theirs.
        self._waiting: set[_Caller] = set()
        self._expiry: asyncio.TimerHandle | None = None
        self._tasks: dict[Message[_Caller], asyncio.Task[None]] = {}

    async def predict(self, exchange: PredictExchange, timeout_seconds: float) -> Prediction:
        """The caller's own answer or error, within its own time.

        Raises:
            NextvalueError: as if the call had been sent alone.
        """
        check_timeout(timeout_seconds)
        num_windows, num_bytes = exchange.windows.shape[0], size_of(exchange)
        if not self._queue.has_room_beside(num_windows=num_windows, num_bytes=num_bytes) or (
            exchange.series and self._unknown_series.unclear(exchange.model, exchange.series)
        ):
            return self._finished(exchange, await self._send(exchange.request, timeout_seconds, None))
        loop = asyncio.get_running_loop()
        now = loop.time()
        caller = _Caller(
            kind=kind_of(exchange),
            num_windows=num_windows,
            num_bytes=num_bytes,
            deadline=now + timeout_seconds,
            due=now + min(MAX_WAIT_SECONDS, MAX_WAIT_SHARE * timeout_seconds),
            exchange=exchange,
            answer=loop.create_future(),
        )
        self._queue.add(caller)
        self._look(caller.kind, now)
        self._waiting.add(caller)
        if self._expiry is None or caller.deadline < self._expiry.when():
            self._expire_at(caller.deadline)
        try:
            return await caller.answer
        finally:
            self._waiting.discard(caller)
            if not caller.closed:
                self._leave(caller)

    async def close(self) -> None:
        """Ends calls that were not sent yet, and waits for the end of the others: the channel was closed."""
        for caller in self._queue.drop_all():
            _fail(caller, Cancelled(grpc.StatusCode.CANCELLED, "the client is closed"))
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """Not asked for before the first call: a client may be made before its loop runs."""
        return asyncio.get_running_loop()

    def _look(self, kind: Hashable, now: float) -> None:
        """Sends what may go at the end of this turn of the loop, so that the turn's other calls go along."""
        if kind in self._flushing:
            return
        if self._queue.can_take(kind, now):
            self._flushing.add(kind)
            self._loop.call_soon(self._flush, kind)
            return
        due, timer = self._queue.next_due(kind), self._timers.get(kind)
        if due < math.inf and (timer is None or timer.when() > due):
            if timer is not None:
                timer.cancel()
            self._timers[kind] = self._loop.call_at(due, self._wake, kind)

    def _wake(self, kind: Hashable) -> None:
        del self._timers[kind]
        self._look(kind, self._loop.time())

    def _flush(self, kind: Hashable) -> None:
        self._flushing.discard(kind)
        now = self._loop.time()
        while self._queue.can_take(kind, now):
            message = self._queue.take(kind, now)
            for caller in message.expired:
                _fail(caller, _too_late())
            if message.calls:
                self._start(message, now)
        self._look(kind, now)

    def _start(self, message: Message[_Caller], now: float) -> None:
        task = self._loop.create_task(self._exchange(message, message.deadline - now))
        self._tasks[message] = task
        task.add_done_callback(partial(self._task_done, message))

    async def _exchange(self, message: Message[_Caller], timeout_seconds: float) -> None:
        """One message on its way. In the end every caller that waits is answered, or on its way alone."""
        callers = message.calls
        try:
            exchange = joined([caller.exchange for caller in callers])
            reply = await self._send(exchange.request, timeout_seconds, partial(self._before_retry, message))
            if len(callers) == 1:
                self._answer(callers[0], self._finished(exchange, reply))
            else:
                self._give_rows(callers, exchange.finish(reply))
                self._send_alone(message)  # those whose count the rows do not tell
        except Exception as error:  # noqa: BLE001 -- whoever waits is told, of a bug of ours as well
            if len(callers) > 1 and _may_be_personal(error):
                self._send_alone(message)
            for caller in self._queue.returned(message):
                _fail(caller, error)
        finally:
            self._end(message)

    def _task_done(self, message: Message[_Caller], _: "asyncio.Task[None]") -> None:
        """A task that is cancelled before it has begun does nothing at all, nor what is under its `finally`."""
        del self._tasks[message]
        self._end(message)

    def _end(self, message: Message[_Caller]) -> None:
        for caller in self._queue.returned(message):  # only if others than we cancelled the task
            caller.answer.cancel()
        # Callers that were just answered run before what this schedules: what they ask next goes along.
        self._look(message.kind, self._loop.time())

    def _give_rows(self, callers: list[_Caller], whole: Prediction) -> None:
        """Answers every caller, except where the number of its unknown series cannot be told."""
        counts: list[int | None] = [0] * len(callers)
        if whole.num_unknown_series:
            series = [caller.exchange.series for caller in callers]
            counts = self._unknown_series.counts(whole.model, whole.version, series, whole.num_unknown_series)
        ends = accumulate((caller.num_windows for caller in callers), initial=0)
        for caller, count, (start, stop) in zip(callers, counts, pairwise(ends), strict=True):
            if count is not None and not caller.closed:
                one_window = caller.exchange.one_window
                self._answer(caller, rows_of(whole, start, stop, one_window=one_window, num_unknown_series=count))

    def _finished(self, exchange: PredictExchange, reply: pb.PredictResponse) -> Prediction:
        """The answer to a call that was sent alone."""
        if exchange.series:
            series, count = exchange.series, reply.num_unknown_series
            self._unknown_series.answered_alone(reply.model, reply.version, series, count)
        return exchange.finish(reply)

    def _send_alone(self, message: Message[_Caller]) -> None:
        now = self._loop.time()
        for alone in self._queue.split(message):
            if alone.deadline > now:
                self._start(alone, now)
            else:
                for caller in self._queue.returned(alone):
                    _fail(caller, _too_late())

    def _before_retry(self, message: Message[_Caller], error: grpc.RpcError, wait_seconds: float) -> None:
        """Tells those at once for whom the next attempt would come too late."""
        next_attempt = self._loop.time() + wait_seconds
        for caller in message.calls:
            if caller.deadline <= next_attempt and not caller.closed:
                _fail(caller, from_rpc_error(error))
                self._leave(caller)

    def _answer(self, caller: _Caller, prediction: Prediction) -> None:
        if not caller.answer.done():
            caller.answer.set_result(prediction)
        self._queue.leave(caller)

    def _expire_at(self, deadline: float) -> None:
        """Look for callers whose time is up, then and not before."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self._loop.call_at(deadline, self._expire, deadline)

    def _expire(self, now: float) -> None:
        """Tell those whose deadline has passed; the next to do so has its timer."""
        self._expiry = None
        # Not before `now`, which a timer may ring a moment ahead of.
        now = max(now, self._loop.time())
        for caller in [caller for caller in self._waiting if caller.deadline <= now]:
            self._waiting.discard(caller)
            self._give_up(caller)
        if self._waiting:
            self._expire_at(min(caller.deadline for caller in self._waiting))

    def _give_up(self, caller: _Caller) -> None:
        _fail(caller, _too_late())
        self._leave(caller)

    def _leave(self, caller: _Caller) -> None:
        """The caller no longer waits; a message that nobody waits for is cancelled, at the server too."""
        abandoned = self._queue.leave(caller)
        if abandoned is not None:
            self._tasks[abandoned].cancel()


def _fail(caller: _Caller, error: Exception) -> None:
    """Each caller gets an error of its own: raising one adds to its traceback."""
    if caller.answer.done():
        return
    if isinstance(error, NextvalueError):
        own = type(error)(error.code, error.details)
        own.__cause__ = error.__cause__
        error = own
    caller.answer.set_exception(error)


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")  # gRPC's own words


def _may_be_personal(error: Exception) -> bool:
    """Whether the error of a joined message may be due to some of its callers, and not to all.

    RESOURCE_EXHAUSTED without a word about coming back is a message beyond a size limit, which the parts may be within.
    """
    if not isinstance(error, NextvalueError):
        return False
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return isinstance(error.__cause__, grpc.RpcError) and pushback_of(error.__cause__) is None
    return error.code in PERSONAL
