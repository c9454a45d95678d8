"""Samples runs of the engine and compares them with the reference, never in a request's path."""

import logging
import queue
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.artifact import golden
from export.artifact.frames import Frame
from export.artifact.limits import Deviation
from export.artifact.manifest import Manifest, Tensor
from server.metrics import Metrics
from server.parity.link import Link, LinkDown
from server.tensors import WINDOW, Tensors
from server.validation import EXTREME

logger = logging.getLogger("nextvalue.parity")

MAX_QUEUED_CHECKS = 64
# Of a larger run so many windows are compared, spread over all of it: enough to see, bounded in memory.
MAX_WINDOWS_PER_CHECK = 256
MAX_BYTES_PER_CHECK = 1 << 20
# A fault that repeats is logged once in so many seconds, with the number of times.
LOG_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Check:
    """What one run of a graph took and gave, or a part of its rows, copied."""

    manifest: Manifest
    graph: str
    inputs: Tensors
    outputs: Tensors


class ParityMonitor:
    """A bounded queue and a thread. `offer` never blocks: what does not fit is dropped and counted."""

    def __init__(self, link: Link, metrics: Metrics, *, share: float, seed: int | None = None) -> None:
        """`share` of what is offered is checked, from 0 to 1."""
        self._link = link
        self._metrics = metrics
        self._share = share
        self._random = random.Random(seed)  # noqa: S311 (sampling, not secrets)
        self._queue: queue.Queue[Check | None] = queue.Queue(MAX_QUEUED_CHECKS)
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="parity", daemon=True)
        # By kind of fault: until when it is not logged again, and how often it was not.
        self._quiet: dict[str, tuple[float, int]] = {}
        self.worst = Deviation()

    def start(self) -> None:
        """Begin checking; the reference is started at once, so that the first checks need not wait for it."""
        self._thread.start()

    def offer(self, manifest: Manifest, inputs: Tensors, outputs: Tensors, *, graph: str = WINDOW) -> None:
        """Maybe check this run of a graph: one of the window, each with its own row of the tolerances, or a rollout."""
        if self._random.random() >= self._share:
            return
        if self._queue.full():
            self._count(manifest, "dropped")
            return
        rows = _sample(inputs, outputs)
        if not len(rows):
            return
        check = Check(
            manifest,
            graph,
            {name: array[rows] for name, array in inputs.items()},
            {name: array[rows] for name, array in outputs.items()},
        )
        try:
            self._queue.put_nowait(check)
        except queue.Full:
            self._count(manifest, "dropped")

    def _work(self) -> None:
        try:
            self._link.call(Frame({"type": "hello"}, {}))
        except LinkDown as error:
            logger.warning("%s", error)
        while (check := self._queue.get()) is not None:
            try:
                self._check(check)
            except LinkDown as error:
                self._count(check.manifest, "dropped")
                if not self._closing:
                    self._log("link", logging.WARNING, f"parity check dropped: {error}")
            except Exception as error:  # noqa: BLE001 (a check that fails in any way must not end the thread)
                self._count(check.manifest, "dropped")
                self._log("check", logging.ERROR, f"parity check dropped: {type(error).__name__}: {error}")

    def _check(self, check: Check) -> None:
        manifest = check.manifest
        fields: dict[str, str | int | float] = {
            "type": "run",
            "model": manifest.name,
            "version": manifest.version,
            "graph": check.graph,
        }
        reply = self._link.call(Frame(fields, check.inputs))
        tensors = manifest.graphs[check.graph].outputs
        if reply.fields.get("type") != "result" or not _same_shapes(tensors, check.outputs, reply.arrays):
            message = reply.fields.get("message", f"an answer of other shapes: {reply.fields}")
            self._log("reference", logging.ERROR, f"reference of {manifest.name}/{manifest.version}: {message}")
            self._count(manifest, "dropped")
            return
        worst = Deviation()
        for tensor in tensors:
            found = golden.compare(check.outputs[tensor.name], reply.arrays, tensor, manifest, check.graph)
            worst = worst.worst(found)
            if not found.within:
                self._log(
                    "mismatch",
                    logging.ERROR,
                    f"parity mismatch: {manifest.name}/{manifest.version} {tensor.name} is off by "
                    f"{found.abs_error:.3g}, {found.share_of_limit:.3g} times the limit",
                )
        self.worst = self.worst.worst(worst)
        self._metrics.parity_abs_error.labels(manifest.name, str(manifest.version)).observe(worst.abs_error)
        self._count(manifest, "match" if worst.within else "mismatch")

    def _log(self, kind: str, level: int, message: str) -> None:
        """Log, but not the same kind of fault for every check."""
        now = time.monotonic()
        quiet_until, unlogged = self._quiet.get(kind, (0.0, 0))
        if now < quiet_until:
            self._quiet[kind] = (quiet_until, unlogged + 1)
            return
        more = f" (and {unlogged} more since the last line)" if unlogged else ""
        logger.log(level, "%s%s", message, more)
        self._quiet[kind] = (now + LOG_EVERY_SECONDS, 0)

    def _count(self, manifest: Manifest, result: str) -> None:
        self._metrics.parity_checks.labels(manifest.name, str(manifest.version), result).inc()

    def close(self) -> None:
        """End the thread and the reference; checks still queued are not made."""
        self._closing = True
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
        self._link.close()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        counts: Counter[str] = Counter()
        for family in self._metrics.parity_checks.collect():
            for sample in family.samples:
                counts[sample.labels["result"]] += int(sample.value)
        logger.info(
            "live parity: %d match, %d mismatch, %d dropped, worst error %.3g (%.2g %% of the limit)",
            counts["match"], counts["mismatch"], counts["dropped"],
            self.worst.abs_error, 100 * self.worst.share_of_limit,
        )  # fmt: skip


def _same_shapes(tensors: list[Tensor], served: Tensors, reference: Tensors) -> bool:
    """Whether the reference gave every output, one for one."""
    return all(
        tensor.name in reference and reference[tensor.name].shape == served[tensor.name].shape for tensor in tensors
    )


def _sample(inputs: Tensors, outputs: Tensors) -> NDArray[np.intp]:
    """Which windows of a run to compare, spread evenly.

    Extreme ones are left out: where the float32 graph may overflow and the float64 reference does not, a caller's
    nonsense would look like our fault.
    """
    windows_BTF = inputs[WINDOW]
    row_bytes = sum(array[0].nbytes for tensors in (inputs, outputs) for array in tensors.values())
    count = min(len(windows_BTF), MAX_WINDOWS_PER_CHECK, max(1, MAX_BYTES_PER_CHECK // row_bytes))
    rows = np.linspace(0, len(windows_BTF) - 1, count).round().astype(np.intp)
    ordinary: NDArray[np.intp] = rows[np.abs(windows_BTF[rows]).max(axis=(1, 2)) <= EXTREME]
    return ordinary
