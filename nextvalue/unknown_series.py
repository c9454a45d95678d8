"""Whose series a model does not know, where a reply says only how many of its windows are of such a series.

A joined message asks for several callers, and each wants a count of its own. A version never changes, so an id that it
once did not know it will never know. What earlier replies told about ids mostly tells the counts of the next:

- A caller has at least as many windows of unknown series as it has windows of ids that are remembered as unknown.
- If these numbers add up to the reply's, they are exact: no window is left that could be of an unknown series.

Where they do not add up, the callers in question have to be asked about one by one, which then is remembered. Of a call
that mixes known and unknown series not even that tells which is which; such calls are better sent alone from then on.
"""

from collections.abc import Sequence

# Beyond it all is forgotten and found out again.
MAX_REMEMBERED = 10_000


class UnknownSeries:
    """What a client has found out. Series are ids, one for each window of a call."""

    def __init__(self, *, max_remembered: int = MAX_REMEMBERED) -> None:
        self._max_remembered = max_remembered
        self._unknown: set[tuple[str, int, str]] = set()  # model, version, id
        self._unclear: set[tuple[str, str]] = set()  # model, id

    def unclear(self, model: str, series: Sequence[str]) -> bool:
        """Whether a call with these series is better not joined."""
        return bool(self._unclear) and _mixed(series) and any((model, name) in self._unclear for name in series)

    def counts(self, model: str, version: int, callers: Sequence[Sequence[str]], num_unknown: int) -> list[int | None]:
        """How many windows of each caller are of unknown series; None for a caller of whom that cannot be told."""
        self._learn(model, version, [name for series in callers for name in series], num_unknown)
        remembered = [self._count(model, version, series) for series in callers]
        exact = sum(remembered) == num_unknown
        return [
            count if exact or count == len(series) else None for count, series in zip(remembered, callers, strict=True)
        ]

    def answered_alone(self, model: str, version: int, series: Sequence[str], num_unknown: int) -> None:
        """Remembers what the reply to a single call tells."""
        self._learn(model, version, series, num_unknown)
        if self._count(model, version, series) == num_unknown:
            self._unclear.difference_update((model, name) for name in series)
            return
        if len(self._unclear) + len(series) > self._max_remembered:
            self._unclear.clear()
        self._unclear.update((model, name) for name in series if (model, version, name) not in self._unknown)

    def _learn(self, model: str, version: int, series: Sequence[str], num_unknown: int) -> None:
        if num_unknown and num_unknown == len(series):
            if len(self._unknown) + len(series) > self._max_remembered:
                self._unknown.clear()
            self._unknown.update((model, version, name) for name in series)

    def _count(self, model: str, version: int, series: Sequence[str]) -> int:
        return sum((model, version, name) in self._unknown for name in series) if self._unknown else 0


def _mixed(series: Sequence[str]) -> bool:
    """Whether some may be known and others not. Single calls of one series always tell."""
    return any(name != series[0] for name in series)
