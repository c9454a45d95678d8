"""Who shares the work of a fit: this process alone, or the processes that torchrun started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.errors import OptionError


@dataclass(frozen=True, kw_only=True)
class Workers:
    """This worker's `rank` among `count`. All hold the same weights and see every batch; each takes its share."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this worker writes files and talks."""
        return self.rank == 0

    def share(self, chosen: Tensor) -> tuple[Tensor, float]:
        """This worker's part of a batch, and the weight that makes the mean over workers the mean over the batch.

        A worker for whom nothing is left takes one window with weight 0, so that all take the same number of steps.
        """
        if self.count == 1:
            return chosen, 1.0
        own = chosen[self.rank :: self.count]
        return (own, len(own) * self.count / len(chosen)) if len(own) else (chosen[:1], 0.0)

    def total(self, value: Tensor) -> Tensor:
        """The sum of a value over the workers."""
        if self.count > 1:
            torch.distributed.all_reduce(value)
        return value

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over the workers."""
        return DistributedDataParallel(module) if self.count > 1 else module


@contextmanager
def join(device: torch.device) -> Iterator[Workers]:
    """The workers that torchrun started (its environment says so), or this process alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Workers()
        return
    if not torch.distributed.is_available():
        raise OptionError(f"WORLD_SIZE is {count}; this torch was built without torch.distributed")
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Workers(rank=torch.distributed.get_rank(), count=count)
    finally:
        torch.distributed.destroy_process_group()
