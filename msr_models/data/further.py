"""Counts of the labels beside the main one."""

from __future__ import annotations

import torch
from torch import Tensor


def count_further(scenario_N: Tensor, label_N: Tensor, further_NJ: Tensor, num_scenarios: int) -> Tensor:
    """Of every further label and scenario the rows that have it, and those of them without the main label.

    scenario_N: integers; label_N, further_NJ: 0 or 1. Returns [J, 2, K] int64.
    """
    has_NJ, is_negative_N1 = further_NJ > 0.5, (label_N < 0.5)[:, None]
    in_scenario_KN = torch.arange(num_scenarios, device=scenario_N.device)[:, None] == scenario_N
    kinds_CN = torch.stack([has_NJ, has_NJ & is_negative_N1], dim=2).flatten(1).T  # label by label
    counts = [(in_scenario_KN & kind_N).sum(1) for kind_N in kinds_CN]
    return torch.stack(counts).view(-1, 2, num_scenarios) if counts else scenario_N.new_zeros((0, 2, num_scenarios))
