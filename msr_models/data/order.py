"""The order of rows in an epoch: a function of seed, epoch and the number of rows alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from msr_models.data.gather import take


def num_batches(num_rows: int, batch_size: int) -> int:
    """Batches of one epoch; the last may be shorter."""
    return -(-num_rows // batch_size)


def batch_length(num_rows: int, batch_size: int, batch: int) -> int:
    """Rows of global batch `batch` (0-based), over all processes."""
    return max(0, min(batch_size, num_rows - batch * batch_size))


def epoch_order(num_rows: int, seed: int, epoch: int) -> Tensor:
    """A permutation of 0 .. num_rows - 1, int64, on the CPU whatever device trains."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(num_rows, generator=generator)


def epoch_batches(
    rows: Tensor,
    batch_size: int,
    seed: int,
    epoch: int,
    *,
    first_batch: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Tensor]:
    """The rows in an order that depends on (seed, epoch) alone, cut into batches from `first_batch` on.

    Of each batch the part [rank::world], which may be empty in a short last batch.
    """
    order = epoch_order(len(rows), seed, epoch).to(rows.device)
    for start in range(first_batch * batch_size, len(rows), batch_size):
        yield take(rows, order[start : start + batch_size][rank::world])
