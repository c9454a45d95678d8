"""How long windows take, learnt from the runs there were."""

# Of a new run in the average.
WEIGHT = 0.2


class Pace:
    """Seconds a window by the size of its run: in a large one a window takes a fraction of what it takes alone."""

    def __init__(self, largest: int) -> None:
        """`largest` is how many windows a run has at most."""
        self._largest = largest
        # By the bits of the number of windows.
        self._seconds: dict[int, float] = {}

    def ran(self, num_windows: int, seconds: float) -> None:
        """A run took so long."""
        size, found = num_windows.bit_length(), seconds / num_windows
        before = self._seconds.get(size, found)
        self._seconds[size] = before + WEIGHT * (found - before)

    def seconds(self, num_windows: int) -> float:
        """About what so many windows take in runs as large as may be; 0 where no such run was seen: it is no guess."""
        size = min(num_windows, self._largest).bit_length()
        return num_windows * self._seconds.get(size, 0.0)
