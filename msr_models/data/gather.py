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


def gather_behaviours(
    ids_HA: Tensor, scenario_H: Tensor, start_B: Tensor, end_B: Tensor, length: int
) -> tuple[Tensor, Tensor]:
    """([B, length, A] ids, [B, length] scenarios): the last `length` of [start : end] of each row, right-aligned behind
    copies of place 0, which is padding; start and end are of one integer type.
    """
    if ids_HA.device.type == "cpu":
        start, end = start_B.numpy()[:, None], end_B.numpy()[:, None]
        at = end + np.arange(-length, 0, dtype=end.dtype)
        at *= at >= start
        ids, scenarios = np.take(ids_HA.numpy(), at, axis=0), np.take(scenario_H.numpy(), at)
        return torch.from_numpy(ids), torch.from_numpy(scenarios)
    at_BL = end_B[:, None] + torch.arange(-length, 0, device=end_B.device, dtype=end_B.dtype)
    at_BL.mul_(at_BL >= start_B[:, None])
    flat = at_BL.view(-1)
    ids_BLA = ids_HA.index_select(0, flat).view(*at_BL.shape, ids_HA.shape[1])
    return ids_BLA, scenario_H.index_select(0, flat).view(at_BL.shape)
