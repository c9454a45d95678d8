"""When workers may show that they are ready."""


class Barrier:
    """Nobody is ready before every first worker is; from then on each is on its own.

    A caller who waits for readiness then finds all workers, not the first and a queue behind it. A worker that replaces
    another need not wait for anybody: the others serve.
    """

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._ready: set[int] = set()
        self.passed = False

    @property
    def num_ready(self) -> int:
        """How many workers have passed their gates and live."""
        return len(self._ready)

    def ready(self, process: int) -> list[int]:
        """A process has passed its gates. Returns the processes to announce, which may be none yet, or all."""
        self._ready.add(process)
        if self.passed:
            return [process]
        self.passed = len(self._ready) == self._num_workers
        return sorted(self._ready) if self.passed else []

    def gone(self, process: int) -> None:
        """A process has died, or takes nothing new."""
        self._ready.discard(process)
