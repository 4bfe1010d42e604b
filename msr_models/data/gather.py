"""Rows by position, and behaviours by pointer.

On a CPU numpy gathers, with one thread: a batch is some microseconds of waiting for memory, and waking torch's other
threads for it costs more than they save, up to ten times the whole where the cores are busy.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def take(column_N: Tensor, rows_B: Tensor) -> Tensor:
    """Rows of a column [N] or [N, C] at these positions."""
    if column_N.device.type == "cpu":
        return torch.from_numpy(np.take(column_N.numpy(), rows_B.numpy(), axis=0))
    return column_N.index_select(0, rows_B)


def gather_items(items: Tensor, start_B: Tensor, end_B: Tensor, length: int) -> Tensor:
    """[B, length] int32: the last `length` of items[start : end] of each row, right-aligned behind zeros.

    items[0] must be 0; start and end are of one integer type.
    """
    if items.device.type == "cpu":
        start, end = start_B.numpy()[:, None], end_B.numpy()[:, None]
        at = end + np.arange(-length, 0, dtype=end.dtype)
        at *= at >= start
        return torch.from_numpy(np.take(items.numpy(), at))
    at_BL = end_B[:, None] + torch.arange(-length, 0, device=end_B.device, dtype=end_B.dtype)
    at_BL.mul_(at_BL >= start_B[:, None])
    return items.index_select(0, at_BL.view(-1)).view(at_BL.shape)
