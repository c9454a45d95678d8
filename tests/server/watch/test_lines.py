"""A line for each call, or for a share of them, and nothing secret in any."""

import asyncio
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextvalue import Client
from server.batcher import Batcher
from server.transport.calls import Calls
from server.watch.lines import RequestLines
from server.watch.record import Record
from server.watch.watch import safe_id
from tests.server.group import group
from tests.server.harness import Running, eventually, eventually_sync, infer_request, serving
from tests.server.watch import calls

SECRETS = (("authorization", "Bearer s3cret"), ("x-api-key", "s3cret"), ("cookie", "s3cret"))


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.name == "nextvalue.requests"]  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


async def test_a_line_says_everything(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(models, log_requests="all") as running:
        await calls.predict(running, ("x-request-id", "abc-1"), *SECRETS, horizon=4)
        await eventually(lambda: lines(caplog), "the line")
    [line] = lines(caplog)
    times = {name: line.pop(name) for name in ("queue_ms", "run_ms", "total_ms")}
    assert all(times.values())
    assert times["queue_ms"] + times["run_ms"] < times["total_ms"]
    assert line.pop("peer").startswith("ipv4:127.0.0.1:")
    assert line == {
        "model": "demo", "version": "1", "rpc": "Predict", "code": "OK", "request_id": "abc-1", "windows": 3,
        "batch_windows": 3,
    }  # fmt: skip
    assert "s3cret" not in caplog.text


async def test_calls_that_fail(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(models, log_requests="all") as running:
        await calls.predict(running, model="nobody")
        await calls.predict(running, horizon=99999)
        await calls.late(running)
        await eventually(lambda: len(lines(caplog)) == 4, "four lines")
    codes = Counter((line["model"], line["code"], line["windows"]) for line in lines(caplog))
    assert codes == {
        ("_unknown", "NOT_FOUND", 0): 1,
        ("demo", "INVALID_ARGUMENT", 0): 1,
        ("demo", "OK", 3): 1,
        ("demo", "DEADLINE_EXCEEDED", 3): 1,
    }
    [late] = [line for line in lines(caplog) if line["code"] == "DEADLINE_EXCEEDED"]
    assert late["queue_ms"] > 10
    assert (late["run_ms"], late["batch_windows"]) == (0, 0)


async def test_requests_of_the_other_protocol(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Their id is in the message; each request of a stream has a line."""
    async with serving(models, log_requests="all") as running:
        request = infer_request("demo", calls.WINDOW)
        request.id = "mine"
        await running.inference.ModelInfer(request)
        errors = await calls.stream(running)
        assert [bool(error) for error in errors] == [False, True]
        await eventually(lambda: len(lines(caplog)) == 3, "three lines")
    # What is refused at once may be there before what was asked first.
    assert {(line["rpc"], line["code"], line.get("request_id")) for line in lines(caplog)} == {
        ("ModelInfer", "OK", "mine"), ("ModelStreamInfer", "OK", "first"), ("ModelStreamInfer", "NOT_FOUND", None),
    }  # fmt: skip


async def test_calls_of_one_run(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each with its own windows, and how many were in the run."""
    async with serving(models, log_requests="all") as running:
        await batched(running)
        await eventually(lambda: len(lines(caplog)) == 3, "three lines")
    assert sorted((line["windows"], line["batch_windows"]) for line in lines(caplog)) == [(1, 1), (2, 5), (3, 5)]


async def batched(running: Running) -> None:
    """One call that runs, and two that wait for it and then share a run."""
    with running.held("demo") as held:
        first = asyncio.create_task(calls.predict(running, rows=1))
        await eventually(lambda: held.batches, "the first run")
        others = [asyncio.create_task(calls.predict(running, rows=rows)) for rows in (2, 3)]
        await eventually(lambda: running.sample("nextvalue_queue_windows", model="demo") == 5, "both to wait")
    await asyncio.gather(first, *others)


async def test_with_all_off_nothing_is_in_the_way(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(models) as running:
        assert type(running.server._calls) is Calls
        assert type(running.server.repository.resolve("demo", "").batcher) is Batcher
        await calls.predict(running)
    assert lines(caplog) == []


def test_a_share() -> None:
    watcher = RequestLines(0.1, seed=1)
    taken = sum(watcher.begin(Record("Predict", "", 0.0), ()) for _ in range(10_000))
    assert 900 < taken < 1100
    assert RequestLines(1).begin(Record("Predict", "", 0.0), ())
    assert not RequestLines(0).begin(Record("Predict", "", 0.0), ())


@pytest.mark.parametrize("text", ["", "a b", "a\nb", "é", "x" * 129, 'a"b', b"ab", None])
def test_an_id_that_could_be_more_than_one_is_left_out(text: object) -> None:
    assert safe_id(text) == ""


def test_json_of_workers(models: Path) -> None:
    """Every line is an object, and those of workers say which."""
    with group(models, "--log-format", "json", "--log-requests", "sampled", "--log-requests-share", "1") as process:
        process.await_line('"message": "ready"')
        port = process.await_line(r"listening grpc=\S+?:(\d+)")[1]
        with Client(f"127.0.0.1:{port}") as client:
            client.predict("demo", np.zeros(5))
        eventually_sync(lambda: any('"request"' in line for line in list(process.lines)), "the line")
        process.terminate()
        assert process.wait() == 0
    said = [json.loads(line) for line in process.lines]
    [line] = [each for each in said if each["message"] == "request"]
    assert (line["logger"], line["level"], line["code"], line["model"]) == ("nextvalue.requests", "info", "OK", "demo")
    assert line["worker"] in {1, 2}
    assert line["time"].endswith("+00:00")
