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

from export.artifact.frames import Frame
from export.artifact.limits import Deviation, deviation
from export.artifact.manifest import Manifest
from server.metrics import Metrics
from server.parity.link import Link, LinkDown
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
    """What one run served: windows [B, T, F] and its predictions [B, 1], copied."""

    manifest: Manifest
    windows_BTF: NDArray[np.float32]
    next_B1: NDArray[np.float32]


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

    def offer(self, manifest: Manifest, windows_BTF: NDArray[np.float32], next_B1: NDArray[np.float32]) -> None:
        """Maybe check this run."""
        if self._random.random() >= self._share:
            return
        if self._queue.full():
            self._count(manifest, "dropped")
            return
        rows = _sample(windows_BTF)
        if not len(rows):
            return
        check = Check(manifest, windows_BTF[rows], next_B1[rows])
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
            "graph": manifest.graph_for(len(check.windows_BTF)),
        }
        reply = self._link.call(Frame(fields, {"window": check.windows_BTF}))
        if reply.fields.get("type") != "result" or "next" not in reply.arrays:
            message = reply.fields.get("message", reply.fields)
            self._log("reference", logging.ERROR, f"reference of {manifest.name}/{manifest.version}: {message}")
            self._count(manifest, "dropped")
            return
        reference_B1 = reply.arrays["next"].astype(np.float64)
        found = deviation(check.next_B1, reference_B1, manifest.transform.scale, manifest.tolerance)
        self.worst = self.worst.worst(found)
        self._metrics.parity_abs_error.labels(manifest.name, str(manifest.version)).observe(found.abs_error)
        self._count(manifest, "match" if found.within else "mismatch")
        if not found.within:
            self._log(
                "mismatch",
                logging.ERROR,
                f"parity mismatch: {manifest.name}/{manifest.version} is off by {found.abs_error:.3g}, "
                f"{found.share_of_limit:.3g} times the limit",
            )

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


def _sample(windows_BTF: NDArray[np.float32]) -> NDArray[np.intp]:
    """Which windows of a run to compare, spread evenly.

    Extreme ones are left out: where the float32 graph may overflow and the float64 reference does not, a caller's
    nonsense would look like our fault.
    """
    count = min(len(windows_BTF), MAX_WINDOWS_PER_CHECK, max(1, MAX_BYTES_PER_CHECK // windows_BTF[0].nbytes))
    rows = np.linspace(0, len(windows_BTF) - 1, count).round().astype(np.intp)
    ordinary: NDArray[np.intp] = rows[np.abs(windows_BTF[rows]).max(axis=(1, 2)) <= EXTREME]
    return ordinary
