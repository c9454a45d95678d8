"""One asyncio client, many callers, a server started as a user would: everyone gets the answer of their own call."""

import asyncio
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextvalue import AsyncClient, DeadlineExceeded, InvalidArgument, Prediction, RetryPolicy
from tests.server.harness import LIMIT_SECONDS, ServerProcess, server_process
from tests.server.oracle import STRANGER, Call, Oracle

pytestmark = pytest.mark.e2e

NUM_CALLERS = 32


@pytest.fixture(scope="module")
def process(models: Path) -> Iterator[ServerProcess]:
    with server_process(models, "--reference", "off") as process:
        process.await_ready()
        yield process


@pytest.fixture(scope="module")
def oracles(models: Path) -> dict[str, Oracle]:
    return {name: Oracle(models / name / "1") for name in ("demo", "covariates", "demand")}


def num_messages(process: ServerProcess) -> int:
    """Predict calls that the server has answered or refused."""
    found = re.findall(r'^nextvalue_requests_total\{.*rpc="Predict".*\} ([0-9.e+]+)$', process.page(), re.MULTILINE)
    return sum(int(float(count)) for count in found)


def ask(client: AsyncClient, model: str, call: Call, **options: Any) -> "asyncio.Task[Prediction]":
    options = {"timeout_seconds": LIMIT_SECONDS} | options
    times = call.time_seconds
    return asyncio.create_task(
        client.predict(
            model, call.windows, horizon=call.horizon, future=call.future, times=times, series=call.series, **options
        )
    )


async def test_callers_of_one_turn_each_get_the_right_answer_from_one_message(
    process: ServerProcess, oracles: dict[str, Oracle]
) -> None:
    generator = np.random.default_rng(1)
    asked = [oracles["demo"].random_call(generator, 1 + n % 3) for n in range(NUM_CALLERS)]
    before = num_messages(process)
    async with AsyncClient(process.target) as client:
        predictions = await asyncio.gather(*(ask(client, "demo", call) for call in asked))
    for call, prediction in zip(asked, predictions, strict=True):
        oracles["demo"].assert_right(prediction.values, oracles["demo"].expect(call))
    assert num_messages(process) - before == 1


async def test_whatever_the_others_do(process: ServerProcess, oracles: dict[str, Oracle]) -> None:
    """Calls of several kinds; in each round one caller is wrong, one leaves, and one has a millisecond."""
    generator = np.random.default_rng(2)
    kinds: list[tuple[str, int, dict[str, Any]]] = [
        ("demo", 1, {}),
        ("demo", 4, {}),
        ("covariates", 3, {}),
        ("demand", 2, {}),
        ("demand", 3, {"intervals": [0.9]}),
    ]
    async with AsyncClient(process.target) as client:
        for number in range(6):
            asked = []
            for n in range(NUM_CALLERS):
                model, horizon, options = kinds[n % len(kinds)]
                call = oracles[model].random_call(generator, 1 + n % 2, horizon)
                asked.append((model, call, options, ask(client, model, call, **options)))
            good = oracles["demand"].random_call(generator, 2, 2)
            assert good.time_seconds is not None
            wrong = Call(windows=good.windows, horizon=2, time_seconds=good.time_seconds[:, ::-1], series=good.series)
            bad = ask(client, "demand", wrong)
            leaver = ask(client, "demand", good)
            hurried = ask(client, "demand", good, timeout_seconds=0.001)
            await asyncio.sleep(0.001 * number)
            leaver.cancel()
            for model, call, options, answer in asked:
                prediction, oracle = await answer, oracles[model]
                expected = oracle.expect(call)
                oracle.assert_right(prediction.values, expected)
                assert prediction.num_unknown_series == (call.series or []).count(STRANGER)
                if "intervals" in options:
                    assert prediction.lower is not None
                    assert prediction.upper is not None
                    oracle.assert_ends_right(prediction.lower, prediction.upper, expected, [1])
            with pytest.raises(InvalidArgument, match=r"time_seconds\[0, 1\] is [0-9]+; it must be above"):
                await bad
            await asyncio.wait([leaver, hurried])
            assert leaver.cancelled() or leaver.result().values.shape == (2, 2)
            assert hurried.exception() is None or isinstance(hurried.exception(), DeadlineExceeded)


async def test_callers_get_over_a_restart_of_the_server(models: Path, oracles: dict[str, Oracle]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    options = ("--reference", "off", "--grpc", address)
    oracle, half_way = oracles["demo"], asyncio.Event()
    persistent = RetryPolicy(max_attempts=10_000, max_backoff_seconds=0.2, budget_tokens=1e6)

    async def caller(client: AsyncClient, number: int) -> None:
        generator = np.random.default_rng(number)
        for step in range(20):
            call = oracle.random_call(generator, 1)
            oracle.assert_right((await ask(client, "demo", call)).values, oracle.expect(call))
            if step == 9:
                half_way.set()

    async with AsyncClient(address, retry=persistent) as client:
        with server_process(models, *options) as first:
            await asyncio.to_thread(first.await_ready)
            callers = [asyncio.create_task(caller(client, number)) for number in range(NUM_CALLERS)]
            await half_way.wait()
            first.terminate()
            assert await asyncio.to_thread(first.wait) == 0
        assert not all(task.done() for task in callers), "the server ended too late to be missed"
        with server_process(models, *options) as second:
            await asyncio.to_thread(second.await_ready)
            await asyncio.gather(*callers)
