"""One metrics page of all workers: each writes into files of a folder, and reading adds them up."""

import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

# prometheus_client reads it when it is imported, in the workers.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# Files of processes that are gone: the same names with this in the place of the process id.
GONE = "gone"


class MetricsFolder(Collector):
    """A fresh folder, gone at `close`. Counters and histograms are added up over all processes there ever were."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="nextvalue-metrics-")
        self.path = Path(self._folder.name)
        # The page is read on other threads; a process that is being folded in must count once.
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """Everything on the page."""
        with self._lock:
            # One that was just made is empty for a moment, which prometheus_client cannot read.
            files = [str(path) for path in self.path.glob("*.db") if path.stat().st_size]
            merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
            return merged

    def gone(self, pid: int) -> None:
        """A process is gone: its gauges go, what it counted stays.

        It is added to one file for all that are gone, or a worker that keeps dying would leave a pair for each time.
        """
        with self._lock:
            mark_process_dead(pid, str(self.path))  # type: ignore[no-untyped-call]
            for kind in ("counter", "histogram"):
                left = self.path / f"{kind}_{pid}.db"
                if left.exists() and left.stat().st_size:
                    self._add(left, self.path / f"{kind}_{GONE}.db")
                left.unlink(missing_ok=True)

    @staticmethod
    def _add(left: Path, to: Path) -> None:
        total: Any = MmapedDict(str(to))  # type: ignore[no-untyped-call]
        for key, value, *_ in MmapedDict.read_all_values_from_file(str(left)):  # type: ignore[no-untyped-call]
            total.write_value(key, total.read_value(key)[0] + value, 0.0)
        total.close()

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()
