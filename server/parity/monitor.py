"""Samples runs of the engine and compares them with the reference, never in a request's path."""

import logging
import queue
import random
import threading
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.artifact.frames import Frame
from export.artifact.limits import Deviation, deviation
from export.artifact.manifest import Manifest
from server.metrics import Metrics
from server.parity.link import Link, LinkDown

logger = logging.getLogger("nextvalue.parity")

MAX_QUEUED_CHECKS = 64
# Of a larger run this many windows are compared: enough to see, bounded in memory.
MAX_WINDOWS_PER_CHECK = 256


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
        check = Check(manifest, windows_BTF[:MAX_WINDOWS_PER_CHECK].copy(), next_B1[:MAX_WINDOWS_PER_CHECK].copy())
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
                    logger.warning("parity check dropped: %s", error)
            except Exception:
                self._count(check.manifest, "dropped")
                logger.exception("parity check dropped")

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
            logger.error(
                "reference of %s/%d: %s", manifest.name, manifest.version, reply.fields.get("message", reply.fields)
            )
            self._count(manifest, "dropped")
            return
        reference_B1 = reply.arrays["next"].astype(np.float64)
        found = deviation(check.next_B1, reference_B1, manifest.transform.scale, manifest.tolerance)
        self.worst = self.worst.worst(found)
        self._metrics.parity_abs_error.labels(manifest.name, str(manifest.version)).observe(found.abs_error)
        self._count(manifest, "match" if found.within else "mismatch")
        if not found.within:
            logger.error(
                "parity mismatch: %s/%d is off by %.3g, %.3g times the limit",
                manifest.name, manifest.version, found.abs_error, found.share_of_limit,
            )  # fmt: skip

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
