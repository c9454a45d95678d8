"""Fits that end by kill -9 at a chosen place, in a process of their own."""

import os
import signal
from collections.abc import Callable, Sequence
from unittest import mock

from tests.training.forked import CONTEXT
from training.__main__ import main
from training.fit import Fit
from training.run import RunFolder


def kill(*_: object) -> None:
    """What `kill -9` and the kernel when memory ends do: no handler, no `finally`, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


def _at_step(epoch: int, position: int) -> None:
    """Before the step at `position` of an epoch."""
    step = Fit._step

    def deadly(fit: Fit, chosen: object) -> None:
        if (len(fit.history) + 1, fit.position) == (epoch, position):
            kill()
        step(fit, chosen)  # type: ignore[arg-type]

    mock.patch.object(Fit, "_step", deadly).start()


def before_the_first_checkpoint() -> None:
    _at_step(1, 4)


def between_checkpoint_and_end_of_the_epoch() -> None:
    """The newest checkpoint is one of the third epoch's first steps, and later ones are lost."""
    write = RunFolder.write_checkpoint

    def early_ones_only(folder: RunFolder, fit: Fit) -> None:
        if fit.position < 4:
            write(folder, fit)

    mock.patch.object(RunFolder, "write_checkpoint", early_ones_only).start()
    _at_step(3, 7)


def between_checkpoint_and_metrics() -> None:
    write = RunFolder.write_checkpoint

    def deadly(folder: RunFolder, fit: Fit) -> None:
        write(folder, fit)
        if (len(fit.history), fit.position) == (3, 0):
            kill()

    mock.patch.object(RunFolder, "write_checkpoint", deadly).start()


def while_a_checkpoint_is_written() -> None:
    """A temporary file with the whole content lies beside the checkpoint before."""
    write = RunFolder.write_checkpoint

    def deadly(folder: RunFolder, fit: Fit) -> None:
        if (len(fit.history), fit.position) == (2, 5):
            mock.patch("os.fsync", kill).start()
        write(folder, fit)

    mock.patch.object(RunFolder, "write_checkpoint", deadly).start()


def during_the_backtest() -> None:
    """The weights lie there, calibrated; what they are worth does not."""
    mock.patch.object(RunFolder, "write_backtest", kill).start()


def killed_fit(place: Callable[[], None], arguments: Sequence[str]) -> int | None:
    """Run the command until `place` kills it; the exit code of the process."""
    process = CONTEXT.Process(target=_run, args=(place, arguments))
    process.start()
    process.join()
    return process.exitcode


def _run(place: Callable[[], None], arguments: Sequence[str]) -> None:
    place()
    main(arguments)
