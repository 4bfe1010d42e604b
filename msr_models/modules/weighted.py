"""Means of values per row where rows have weights: a row of weight 2 counts as two rows, one of weight 0 not at all."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_mean(value_B: Tensor, weight_B: Tensor | None, total: Tensor | None = None) -> Tensor:
    """Σ w_i v_i / Σ w_i, scalar; the mean without weights, 0 where all weights are 0. total: in place of Σ w_i."""
    if weight_B is None:
        return value_B.mean()
    total = weight_B.sum() if total is None else total
    return (value_B * weight_B).sum() / total.clamp(min=torch.finfo(total.dtype).tiny)
