"""One process or several (torchrun): rank and world size from the environment, gradients summed over all.

Each process takes every world-th row of each global batch and divides its loss by the global batch's size, so that the
sum of gradients is the one-process gradient up to rounding, also where a shard is shorter or empty.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

# torch.optim imports this module late, and its functions take the group that exists by then as their default: the
# group would outlive destroy_process_group, and its threads abort the process when the interpreter ends.
import torch.distributed.nn.functional
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Processes:
    """The rank of this process among `world` processes."""

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that logs and writes tables and files."""
        return self.rank == 0

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the (dense) gradients of all processes in place; no-op for one."""
        if self.world == 1 or not parameters:
            return
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        dist.all_reduce(flat)  # one message per step, not one per parameter
        for parameter, summed in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
            parameter.grad = summed.view_as(parameter)

    def gather_rows(self, rows_N: Tensor, grad_ND: Tensor) -> tuple[Tensor, Tensor]:
        """The row gradients of all processes one after the other, in the order of ranks; N may differ, also be 0."""
        if self.world == 1:
            return rows_N, grad_ND
        lengths = self._gather(torch.tensor([len(rows_N)], device=rows_N.device))
        counts = [int(n) for n in lengths]
        missing = max(counts) - len(rows_N)
        rows = self._gather(torch.cat([rows_N, rows_N.new_zeros(missing)]))
        grads = self._gather(torch.cat([grad_ND, grad_ND.new_zeros((missing, grad_ND.shape[1]))]))
        kept = zip(rows, grads, counts, strict=True)
        pairs = [(rows_n[:count], grads_n[:count]) for rows_n, grads_n, count in kept]
        return torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])

    def _gather(self, value: Tensor) -> list[Tensor]:
        """The tensors (of one shape) of all processes, by rank."""
        found = [torch.empty_like(value) for _ in range(self.world)]
        dist.all_gather(found, value)
        return found

    def gather_bytes(self, value: Tensor) -> list[Tensor]:
        """A uint8 tensor of one length from every process, by rank, on the CPU."""
        if self.world == 1:
            return [value]
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        return [part.cpu() for part in self._gather(value.to(device))]

    def sum_value(self, value: Tensor) -> Tensor:
        """Add up a tensor over all processes."""
        if self.world > 1:
            dist.all_reduce(value)
        return value


@contextmanager
def join_processes() -> Iterator[Processes]:
    """This process's place under torchrun (RANK, WORLD_SIZE); alone where they are not set.

    All but the main process log warnings and errors only: they do the same work.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes()
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if dist.get_rank():
        logging.disable(logging.INFO)
    try:
        yield Processes(rank=dist.get_rank(), world=world)
    finally:
        dist.destroy_process_group()


def launched_processes() -> tuple[int, int]:
    """(this process's rank, number of processes) under torchrun, which sets them; (0, 1) without.

    Searching and scoring exchange nothing between processes, so none has to wait for another.
    """
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
