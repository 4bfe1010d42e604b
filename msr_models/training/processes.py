"""One process or several (torchrun): rank and world size from the environment, gradients summed over all.

Each process takes every world-th row of each global batch and divides its loss by the global batch's size, so that the
sum of gradients is the one-process gradient up to rounding, also where a shard is shorter or empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Processes:
    """Who this process is among `world`."""

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Only the main process writes tables and files."""
        return self.rank == 0

    def shard(self, rows: Tensor) -> Tensor:
        """This process's part of a global batch."""
        return rows if self.world == 1 else rows[self.rank :: self.world]

    def sum_gradients(self, model: nn.Module) -> None:
        """Add up the gradients of all processes in place; no-op for one."""
        if self.world == 1:
            return
        parameters = list(model.parameters())
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        dist.all_reduce(flat)  # one message per step, not one per parameter
        # Tensor.split is untyped in torch
        for parameter, summed in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):  # type: ignore[no-untyped-call]
            parameter.grad = summed.view_as(parameter)

    def sum_value(self, value: Tensor) -> Tensor:
        """Add up a tensor over all processes."""
        if self.world > 1:
            dist.all_reduce(value)
        return value


@contextmanager
def join_processes() -> Iterator[Processes]:
    """This process's place under torchrun (RANK, WORLD_SIZE); alone where they are not set."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes()
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes(rank=dist.get_rank(), world=world)
    finally:
        dist.destroy_process_group()
