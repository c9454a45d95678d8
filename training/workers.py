"""Who shares the work of a fit: this process alone, or the processes that torchrun started."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from training.errors import FitError, OptionError

# The store lies in torchrun itself, on this machine or one that all workers reach already.
STORE_PATIENCE = timedelta(seconds=10)
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Workers:
    """This worker's `rank` among `count` and its `device`.

    All hold the same weights and see every batch; each takes its share.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = CPU

    @property
    def is_first(self) -> bool:
        """Whether this worker writes files and talks."""
        return self.rank == 0

    def share(self, chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], float]:
        """This worker's part of a batch, and the weight that makes the mean over workers the mean over the batch.

        A worker for whom nothing is left takes one window with weight 0, so that all take the same number of steps.
        """
        if self.count == 1:
            return chosen, 1.0
        own = chosen[self.rank :: self.count]
        return (own, len(own) * self.count / len(chosen)) if len(own) else (chosen[:1], 0.0)

    def total(self, value: Tensor) -> Tensor:
        """The sum of a value over the workers, in place; the same bits for all."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over the workers."""
        return DistributedDataParallel(module) if self.count > 1 else module


def worker_count() -> int:
    """How many workers torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def join(device: str) -> Iterator[Workers]:
    """The workers that torchrun started (its environment says so), or this process alone.

    Raises OptionError where they cannot be joined, FitError in the others when one of them ends.
    """
    count = worker_count()
    if count == 1:
        yield Workers(device=torch.device(device))
        return
    if not distributed.is_available():
        raise OptionError(f"WORLD_SIZE is {count}; this torch was built without torch.distributed")
    own = _own_device(device)
    try:
        distributed.init_process_group("nccl" if own.type == "cuda" else "gloo")
        # The last to let go of a group waits for its threads. Python gives up its lock for that; DDP does not, and a
        # thread that needs the lock would never end. So the caller lets go of DDP first, and this name comes last.
        group = distributed.group.WORLD
        yield Workers(rank=distributed.get_rank(), count=count, device=own)
    except RuntimeError as error:
        if not _is_lost_worker(error):
            raise
        raise FitError("a worker ended before the fit was done; start all again with --resume") from error
    # Not after an error: while this process lives the others wait, so it is heard before they miss it.
    gc.collect()
    distributed.destroy_process_group()
    del group


def _own_device(device: str) -> torch.device:
    """The GPU of this worker's number among those of its machine, or the CPU."""
    if device != "cuda":
        return torch.device(device)
    number, available = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= available:
        raise OptionError(f"nproc-per-node is {os.environ['LOCAL_WORLD_SIZE']}; there are {available} GPUs")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def _is_lost_worker(error: RuntimeError) -> bool:
    return isinstance(error, distributed.DistError) or "gloo" in str(error).lower()


def report(line: str) -> None:
    """Say on stderr why the command ends: once, though every worker may have met the same error."""
    store = _agent_store()
    if store is None or store.add("nextvalue/reporting", 1) == 1:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
        if store is not None:
            store.set("nextvalue/reported", "")
        return
    # torchrun ends all workers when the first is gone; until the line is out, that must not happen.
    with suppress(distributed.DistError):
        store.wait(["nextvalue/reported"], STORE_PATIENCE)


def _agent_store() -> Any:
    """What torchrun lets its workers share, or None where there is no torchrun or it cannot be reached."""
    if worker_count() == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    try:
        store, _, _ = next(distributed.rendezvous("env://", timeout=STORE_PATIENCE))  # type: ignore[attr-defined]  # not in every build
    except (distributed.DistError, ValueError):
        return None
    return store
