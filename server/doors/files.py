"""What files say, looked at again from time to time. What is bad changes nothing, and is said once."""

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger("nextvalue.doors")

Seen = TypeVar("Seen")
Value = TypeVar("Value")


class Kept(Generic[Seen, Value]):
    """The last good value of some files.

    A file that is being written when it is looked at reads badly or as two halves of different ones; so a value counts
    only if the files were the same before and after it was made.
    """

    def __init__(self, what: str, see: Callable[[], Seen], make: Callable[[Seen], Value]) -> None:
        """`see` reads the files, which `make` makes a value of; either raises OSError or ValueError, as this does."""
        self._what = what
        self._see = see
        self._make = make
        self._seen: Seen | None = see()
        self.value = make(self._seen)

    def look(self) -> bool:
        """Whether there is a new value."""
        try:
            seen = self._see()
        except OSError as error:
            self._complain(None, error)
            return False
        if seen == self._seen:
            return False
        try:
            value = self._make(seen)
            if self._see() != seen:
                return False  # being written: the next look
        except (OSError, ValueError) as error:
            self._complain(seen, error)
            return False
        self._seen, self.value = seen, value
        logger.info("%s: read again", self._what)
        return True

    def _complain(self, seen: Seen | None, error: Exception) -> None:
        if seen != self._seen:
            logger.error("%s: what it was before stays in force; %s", self._what, error)
        self._seen = seen
