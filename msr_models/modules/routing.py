"""Which rows visit which scenario's parts, sorted by scenario so that stacked weights see contiguous groups."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Routing:
    """V visits sorted by scenario: visit v is row row_index_V[v] at scenario scenario_V[v].

    ends_K int32: visits [ends_K[k-1], ends_K[k]) belong to scenario k; a scenario without rows has an empty group.
    """

    row_index_V: Tensor
    scenario_V: Tensor
    ends_K: Tensor
    num_rows: int

    @classmethod
    def _sorted(cls, row_index_V: Tensor, scenario_V: Tensor, num_rows: int, num_scenarios: int) -> Routing:
        scenario_sorted_V, order_V = torch.sort(scenario_V, stable=True)
        known_K = torch.arange(num_scenarios, device=scenario_V.device)
        ends_K = torch.searchsorted(scenario_sorted_V, known_K, right=True).to(torch.int32)
        return cls(row_index_V.index_select(0, order_V), scenario_sorted_V, ends_K, num_rows)

    @classmethod
    def own(cls, scenario_B: Tensor, num_scenarios: int) -> Routing:
        """Every row visits its own scenario only."""
        rows_B = torch.arange(scenario_B.shape[0], device=scenario_B.device)
        return cls._sorted(rows_B, scenario_B, scenario_B.shape[0], num_scenarios)

    @classmethod
    def own_and_shared(cls, scenario_B: Tensor, shared_B: Tensor, num_scenarios: int) -> Routing:
        """Every row visits its own scenario; rows with shared_B visit all others too."""
        rows_B = torch.arange(scenario_B.shape[0], device=scenario_B.device)
        rows_H = shared_B.nonzero().squeeze(1)
        step_J = torch.arange(1, num_scenarios, device=scenario_B.device)
        others_HJ = (scenario_B.index_select(0, rows_H)[:, None] + step_J) % num_scenarios
        row_V = torch.cat([rows_B, rows_H[:, None].expand_as(others_HJ).reshape(-1)])
        scenario_V = torch.cat([scenario_B, others_HJ.reshape(-1)])
        return cls._sorted(row_V, scenario_V, scenario_B.shape[0], num_scenarios)

    @classmethod
    def everywhere(cls, num_rows: int, num_scenarios: int, device: torch.device) -> Routing:
        """Every row visits every scenario, ordered [K, B]."""
        rows_B = torch.arange(num_rows, device=device)
        scenarios_K = torch.arange(num_scenarios, device=device)
        ends_K = ((scenarios_K + 1) * num_rows).to(torch.int32)
        return cls(rows_B.repeat(num_scenarios), scenarios_K.repeat_interleave(num_rows), ends_K, num_rows)

    def to_rows(self, values_V: Tensor) -> Tensor:
        """values_V of `own` visits back in row order, [B, ...]."""
        place_B = torch.empty_like(self.row_index_V)
        place_B[self.row_index_V] = torch.arange(self.num_rows, device=place_B.device)
        return values_V.index_select(0, place_B)
