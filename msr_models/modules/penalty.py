"""Means over visits without padding."""

from __future__ import annotations

import torch
from torch import Tensor

from msr_models.modules.routing import Routing


def mean_of_real(values_V: Tensor, routing: Routing) -> Tensor:
    """Mean over the visits that are no padding, scalar; 0 without visits."""
    if routing.real_V is None:
        return values_V.sum() / max(len(values_V), 1)
    return torch.where(routing.real_V, values_V, 0.0).sum() / routing.real_V.sum().clamp(min=1)
