"""What must hold of each image when it is run as locked as in a cluster. A check that fails raises CheckError."""

import statistics
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.images.storage import USER, Container, Storage
from benchmarks.startup import free_port
from nextvalue import Client, HealthStatus, NextvalueError

READY_SECONDS = 60.0
NUM_STARTS = 5
WINDOW = [1.0, 2.0, 3.0, 4.0, 5.0]

# Run inside: who the server is, what it may do, and whether it can write where it should not.
LOOK = """
import os, re
status = open("/proc/1/status").read()
wanted = ("Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
for name in wanted: print(name, *re.search(rf"^{name}:(.*)$", status, re.M)[1].split())
for place in ("/opt/nextvalue/x", "/usr/x", "/etc/x", "/models/x"):
    try: open(place, "w")
    except OSError as error: print("write", place, error.strerror)
    else: print("write", place, "done")
open("/tmp/x", "w").write("x")
try: import torch
except ImportError: print("torch none")
else: print("torch", torch.__version__)
"""


class CheckError(Exception):
    """What does not hold."""


def expect(condition: object, what: str) -> None:
    """Raises CheckError."""
    if not condition:
        raise CheckError(what)


def await_serving(client: Client, container: Container) -> None:
    """Poll until the server serves. Raises CheckError."""
    give_up = time.monotonic() + READY_SECONDS
    while time.monotonic() < give_up:
        try:
            if client.health(timeout_seconds=0.2) is HealthStatus.SERVING:
                return
        except NextvalueError:
            pass
        time.sleep(0.005)
    raise CheckError(f"not ready within {READY_SECONDS} s: {container.log()}")


@contextmanager
def server(
    storage: Storage, image: str, models: Path, *options: str, mounts: tuple[str, ...] = ()
) -> Iterator[tuple[Container, int, int]]:
    """A container of the `cpu` image, created and not started; its gRPC and metrics ports."""
    grpc, metrics = free_port(), free_port()
    arguments = [
        "--models=/models", f"--grpc=127.0.0.1:{grpc}", f"--metrics=127.0.0.1:{metrics}", "--provider=cpu", *options,
    ]  # fmt: skip
    with storage.created(image, *arguments, mounts=(f"{models}:/models:ro", *mounts)) as container:
        yield container, grpc, metrics


def check_locked(container: Container, *, has_torch: bool) -> None:
    """Nobody who is root, no capability at all, nothing to write to but /tmp."""
    seen = container.execute("python", "-c", LOOK).splitlines()
    writes = [line for line in seen if line.startswith("write ")]
    lines = dict(line.split(" ", 1) for line in seen if line not in writes)
    expect(lines["Uid"].split() == [str(USER)] * 4, f"Uid is {lines['Uid']}")
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        expect(int(lines[name], 16) == 0, f"{name} is {lines[name]}")
    expect(lines["NoNewPrivs"] == "1", "new privileges could be had")
    expect(len(writes) == 4 and all("Read-only" in each or "denied" in each for each in writes), str(writes))
    expect((lines["torch"] != "none") == has_torch, f"torch is {lines['torch']}")


def check_cpu(storage: Storage, image: str, models: Path) -> None:
    """Locked, healthy by its own command, right, and ended without an error."""
    with server(storage, image, models) as (container, grpc, _):
        container.start()
        with Client(f"127.0.0.1:{grpc}") as client:
            await_serving(client, container)
            client.predict("demo", WINDOW)
        inspected = storage.inspect("container", container.name)
        expect(inspected["HostConfig"]["ReadonlyRootfs"], "the root can be written to")
        expect(not inspected["EffectiveCaps"], f"capabilities are {inspected['EffectiveCaps']}")
        check_locked(container, has_torch=False)
        health = container.execute("python", "-m", "nextvalue", "health", "--target", f"127.0.0.1:{grpc}")
        expect(health.strip() == "SERVING", f"health says {health}")
        expect(container.stop() == 0, f"it ended with an error: {container.log()}")
        expect("Traceback" not in container.log(), container.log())


def ready_seconds(storage: Storage, image: str, models: Path) -> list[float]:
    """From `podman start` of a container that was created to the first SERVING, several times."""
    found = []
    for _ in range(NUM_STARTS):
        with server(storage, image, models) as (container, grpc, _), Client(f"127.0.0.1:{grpc}") as client:
            begin = time.monotonic()
            container.start()
            await_serving(client, container)
            found.append(time.monotonic() - begin)
    return sorted(found)


def check_gpu(storage: Storage, image: str, models: Path) -> str:
    """Without a GPU it ends at once, and says why in one line; returns the line."""
    options = ["--models=/models", "--grpc=127.0.0.1:0", "--metrics=127.0.0.1:0", "--provider=cuda"]
    with storage.created(image, *options, mounts=[f"{models}:/models:ro"]) as container:
        container.start()
        status = container.wait()
        lines = container.log().splitlines()
    expect(status == 1, f"its status is {status}: {lines}")
    expect(len(lines) == 1 and lines[0].startswith("server: provider is 'cuda' but CUDA cannot be had: "), str(lines))
    return lines[0]


def check_reference(storage: Storage, images: dict[str, str], models: Path, run: Path) -> int:
    """The reference beside the server, a socket between them: how many runs it found to match."""
    run.mkdir()
    run.chmod(0o777)  # what fsGroup does for an emptyDir
    mounts = (f"{run}:/run/nextvalue",)
    listen = "unix:/run/nextvalue/reference.sock"
    with storage.created(
        images["reference"], "--listen", listen, "--models", "/models", mounts=[f"{models}:/models:ro", *mounts]
    ) as beside:
        beside.start()
        options = (f"--reference={listen}", "--parity-share=1")
        with server(storage, images["cpu"], models, *options, mounts=mounts) as (container, grpc, metrics):
            container.start()
            check_locked(beside, has_torch=True)
            with Client(f"127.0.0.1:{grpc}") as client:
                await_serving(client, container)
                give_up = time.monotonic() + READY_SECONDS
                while not (found := _matches(metrics)):
                    expect(time.monotonic() < give_up, f"nothing was checked: {container.log()}{beside.log()}")
                    client.predict("demo", np.array(WINDOW))
            page = _page(metrics)
            expect('result="mismatch"' not in page or _checks(page, "mismatch") == 0, "it found a mismatch")
    return found


def _page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        text: str = reply.read().decode()
    return text


def _checks(page: str, result: str) -> int:
    lines = [line for line in page.splitlines() if line.startswith("nextvalue_parity_checks_total{")]
    return sum(round(float(line.rsplit(" ", 1)[1])) for line in lines if f'result="{result}"' in line)


def _matches(port: int) -> int:
    return _checks(_page(port), "match")


def median(seconds: list[float]) -> float:
    """Of several starts."""
    return statistics.median(seconds)
