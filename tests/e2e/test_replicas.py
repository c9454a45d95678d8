"""Three servers: calls are spread evenly over them, and Prometheus counts exactly those that were made."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from nextvalue import AsyncClient, Client, InvalidArgument, NotFound
from tests.e2e.envoy import envoy, needs_envoy
from tests.e2e.prometheus import needs_prometheus, prometheus
from tests.e2e.replicas import NUM_REPLICAS, Replica, replicas
from tests.server.harness import eventually_sync
from tests.server.oracle import Oracle

pytestmark = pytest.mark.e2e

NUM_CALLS = 600
# From the mean, of any replica.
SPREAD = 0.1


@pytest.fixture(scope="module")
def found(models: Path) -> Iterator[list[Replica]]:
    with ExitStack() as stack:
        yield stack.enter_context(replicas(models, stack=stack))


def answered(found: Sequence[Replica]) -> np.ndarray:
    return np.array([each.counted("nextvalue_requests_total", rpc="Predict", code="OK") for each in found])


def assert_even(counts: np.ndarray) -> None:
    mean = counts.sum() / len(counts)
    assert (abs(counts - mean) <= SPREAD * mean).all(), counts


def call(client: Client, demo: Oracle, count: int) -> None:
    generator = np.random.default_rng(count)
    for _ in range(count):
        windows = demo.random_windows(generator, 1)
        demo.assert_right(client.predict("demo", windows).values, demo.predict(windows))


@needs_envoy
def test_spread_by_envoy(found: list[Replica], models: Path, tmp_path: Path) -> None:
    """One client, one connection, and each call goes to the next server."""
    with envoy(found, tmp_path) as front, Client(front.target) as client:
        before = answered(found)
        call(client, Oracle(models / "demo" / "1"), NUM_CALLS)
        counts = answered(found) - before
    assert counts.sum() == NUM_CALLS
    assert_even(counts)


def all_addresses(found: Sequence[Replica]) -> str:
    """What a headless Service's name becomes: an address for each pod."""
    return "ipv4:" + ",".join(each.target for each in found)


def test_spread_by_our_client(found: list[Replica], models: Path) -> None:
    """Nothing stands between: the client has a connection to each address that it is given."""
    demo = Oracle(models / "demo" / "1")
    with Client(all_addresses(found)) as client:
        start = answered(found)

        def connected() -> bool:
            call(client, demo, NUM_REPLICAS)
            return bool((answered(found) > start).all())

        eventually_sync(connected, "a call at each server")
        before = answered(found)
        call(client, demo, NUM_CALLS)
        counts = answered(found) - before
    assert counts.sum() == NUM_CALLS
    assert_even(counts)


async def test_spread_by_our_asyncio_client(found: list[Replica], models: Path) -> None:
    """The same; one caller, so no two calls go joined."""
    demo = Oracle(models / "demo" / "1")
    generator = np.random.default_rng(5)
    async with AsyncClient(all_addresses(found)) as client:
        start = answered(found)
        while (answered(found) == start).any():
            await client.predict("demo", demo.random_windows(generator, 1))
        before = answered(found)
        for _ in range(NUM_CALLS):
            await client.predict("demo", demo.random_windows(generator, 1))
        counts = answered(found) - before
    assert counts.sum() == NUM_CALLS
    assert_even(counts)


@needs_envoy
@needs_prometheus
def test_prometheus_counts_the_calls_made(models: Path, tmp_path: Path) -> None:
    """Answered and refused ones, predictions and times, added up over servers."""
    demo = Oracle(models / "demo" / "1")
    window = demo.random_windows(np.random.default_rng(5), 1)
    with ExitStack() as stack:
        found = stack.enter_context(replicas(models, stack=stack))
        front = stack.enter_context(envoy(found, tmp_path))
        watching = stack.enter_context(prometheus([each.metrics_port for each in found], tmp_path))
        with Client(front.target) as client:
            for count in range(1, 101):
                client.predict("demo", np.repeat(window, 1 + count % 4, axis=0))
                if count % 10 == 0:
                    with pytest.raises(InvalidArgument):
                        client.predict("demo", window[:, 1:])
                if count % 20 == 0:
                    with pytest.raises(NotFound):
                        client.predict("nobody", window)
        watching.await_scrapes(NUM_REPLICAS)
        predicted = sum(1 + count % 4 for count in range(1, 101))
        for query, expected in (
            ('sum(nextvalue_requests_total{rpc="Predict",code="OK",model="demo"})', 100),
            ('sum(nextvalue_requests_total{rpc="Predict",code="INVALID_ARGUMENT"})', 10),
            ('sum(nextvalue_requests_total{rpc="Predict",code="NOT_FOUND",model="_unknown"})', 5),
            ('sum(nextvalue_requests_total{rpc="Predict"})', 115),
            ('sum(nextvalue_predictions_total{model="demo"})', predicted),
            ('sum(nextvalue_request_seconds_count{rpc="Predict",model="demo"})', 110),
            ('count(nextvalue_model_info{model="demo"})', NUM_REPLICAS),
        ):
            assert watching.values(query) == [expected], query
        each_has = watching.values('sum by (instance) (nextvalue_requests_total{rpc="Predict"})')
        assert len(each_has) == NUM_REPLICAS
        assert_even(np.array(each_has))
