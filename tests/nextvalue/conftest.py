import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
import pytest

from nextvalue import AsyncClient, Client, RetryPolicy
from nextvalue.calls import Call
from tests.nextvalue.fake import FakeServer, serve

# As persistent as the real one, but without its waits.
QUICK = RetryPolicy(initial_backoff_seconds=0.0, max_backoff_seconds=0.0)

# One call of either client: the method's name, then its arguments.
Ask = Callable[..., Awaitable[Any]]
Connect = Callable[..., AbstractAsyncContextManager[Ask]]


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with serve() as server:
        yield server


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once a client has been told to wait before its next attempt."""
    told = threading.Event()
    failed = Call.failed

    def failed_and_told(call: Call, error: grpc.RpcError) -> float:
        seconds = failed(call, error)
        told.set()
        return seconds

    monkeypatch.setattr(Call, "failed", failed_and_told)
    return told


@asynccontextmanager
async def connect_sync(target: str, **options: Any) -> AsyncIterator[Ask]:
    with Client(target, **options) as client:

        async def ask(method: str, *args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(getattr(client, method), *args, **kwargs)

        yield ask


@asynccontextmanager
async def connect_async(target: str, **options: Any) -> AsyncIterator[Ask]:
    async with AsyncClient(target, **options) as client:

        async def ask(method: str, *args: Any, **kwargs: Any) -> Any:
            return await getattr(client, method)(*args, **kwargs)

        yield ask


@pytest.fixture(params=[connect_sync, connect_async], ids=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Opens a client; what uses it runs once with each of the two."""
    opener: Connect = request.param
    return opener


@pytest.fixture
async def ask(connect: Connect, fake: FakeServer) -> AsyncIterator[Ask]:
    """A client of the fake that retries without waiting."""
    async with connect(fake.target, retry=QUICK) as ask:
        yield ask
