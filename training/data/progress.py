"""How far a long reading is: told to a function, or drawn as bars."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Progress(Protocol):
    """Told now and then what is being done and how many of how many rows of it are."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show it."""


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@contextmanager
def shown(console: Console) -> Iterator[Progress]:
    """A bar for each thing that is being done, for a person who watches; they are gone when it is over."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    is_watched = console.is_terminal and not console.quiet
    with Bars(*columns, console=console, transient=True, disable=not is_watched) as bars:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield tell
