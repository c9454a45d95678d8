"""The time-ordered split: fit first, then validation, the newest rows for the test."""

from typing import NamedTuple

import msgspec

from training.errors import DataError


class Bounds(NamedTuple):
    """Row ranges of one series; each begins where the one before it ends."""

    fit: range
    validation: range
    test: range


class SplitOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of each series' end is held back; the rest is fitted on.

    Each number below 1 is a share of the series, each other one a count of rows. Raises ValueError for one
    that is neither.
    """

    validation: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what cannot be a share or a count."""
        for name in ("validation", "test"):
            value = getattr(self, name)
            if not value > 0 or (value >= 1 and value != int(value)):
                raise ValueError(f"{name} is {value}; it must be a share between 0 and 1 or a whole number of rows")

    def bounds(self, num_rows: int) -> Bounds:
        """Cut a series of `num_rows`. Raises DataError if nothing is left to fit on."""
        test = self._rows(self.test, num_rows)
        validation = self._rows(self.validation, num_rows)
        fit_stop = num_rows - validation - test
        if fit_stop < 1:
            raise DataError(
                f"the series has {num_rows} rows, of which validation takes {validation} and test {test}; "
                "at least 1 must be left to fit on"
            )
        return Bounds(range(fit_stop), range(fit_stop, fit_stop + validation), range(fit_stop + validation, num_rows))

    @staticmethod
    def _rows(size: float, num_rows: int) -> int:
        return round(size * num_rows) if size < 1 else int(size)
