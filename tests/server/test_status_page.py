"""The status page of a whole server: one process, and several workers."""

import asyncio
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from nextvalue import Client
from tests.server.group import group, workers_of
from tests.server.harness import LIMIT_SECONDS, ServerProcess, eventually_sync, serving, started

WINDOW = np.zeros((3, 5, 1), np.float32)


def read(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/?refresh=off", timeout=LIMIT_SECONDS) as reply:
        text: str = reply.read().decode()
    return text


def words(page: str) -> str:
    """The text alone."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split())


async def test_of_one_process(models: Path) -> None:
    async with serving(models) as running:
        port = running.server.metrics_port
        await running.predict("demo", WINDOW, horizon=2)
        said = words(await asyncio.to_thread(read, port))
    assert "Nextvalue ready up" in said
    assert "5 models, 5 versions served" in said
    assert re.search(r"demo 1 serving default lstm CPU \d+ CPU 0 0 –", said)
    assert "OK 1 " in said


async def test_it_is_read_while_the_loop_stands_still(models: Path) -> None:
    """Nothing of it needs a turn of the loop."""
    async with serving(models) as running:
        port = running.server.metrics_port
        with ThreadPoolExecutor(1) as thread:
            # Blocks the loop on purpose.
            assert "Nextvalue" in thread.submit(read, port).result(LIMIT_SECONDS)


async def test_before_anything_is_loaded(models: Path) -> None:
    async with started(models) as running:
        assert "Nextvalue" in await asyncio.to_thread(read, running.server.metrics_port)


def called(process: ServerProcess, count: int) -> None:
    for _ in range(count):
        with Client(process.target) as client:
            client.predict("demo", WINDOW[0, :, 0].tolist())


def test_of_several_workers(models: Path) -> None:
    """Sums over both; what is not a number comes from what they said."""
    with group(models) as process:
        process.await_ready()
        called(process, 8)
        said = words(read(process.metrics_port))
        assert "Nextvalue ready up" in said
        assert "OK 8 " in said
        assert re.search(r"demo 1 serving default lstm CPU \d+ CPU 0 0 –", said), "the same graphs in each: no sum"
        pids = [worker.pid for worker in workers_of(process)]
        assert all(re.search(rf"[12] {pid} \d+ s", said) for pid in pids)

        workers_of(process)[0].kill()
        eventually_sync(lambda: str(pids[0]) not in words(read(process.metrics_port)), "the dead one to leave the page")
        assert "OK 8 " in words(read(process.metrics_port)), "what it counted stays"
