"""Visits: rows in the parts of scenarios, sorted by scenario so that stacked weights see contiguous groups."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Routing:
    """V visits sorted by (scenario, row): visit v is row row_index_V[v] at scenario scenario_V[v].

    ends_K int32: visits [ends_K[k-1], ends_K[k]) belong to scenario k; a scenario without rows has an empty group.
    real_V: None, or False for padding at the end up to a fixed number of visits (copies of row 0 in the last scenario),
    whose logits must not count.
    """

    row_index_V: Tensor
    scenario_V: Tensor
    ends_K: Tensor
    num_rows: int
    real_V: Tensor | None = None

    @classmethod
    def of_mask(cls, visit_KB: Tensor, capacity: int | None = None) -> Routing:
        """Visits where visit_KB (bool) is True.

        capacity: pad to this number of visits, so that shapes are the same in every batch and nothing waits for the
        device; it must be at least the number of visits.
        """
        ends_K = visit_KB.sum(1).cumsum(0).to(torch.int32)
        num_scenarios, num_rows = visit_KB.shape
        if capacity is None:
            scenario_V, row_V = visit_KB.nonzero(as_tuple=True)
            return cls(row_V, scenario_V, ends_K, num_rows)
        flat = visit_KB.flatten()
        # One place more, which takes all pairs that are no visit
        place = torch.where(flat, flat.cumsum(0) - 1, capacity)
        pair = torch.arange(flat.shape[0], device=flat.device)
        filler = (num_scenarios - 1) * num_rows
        pair_V = torch.full((capacity + 1,), filler, device=flat.device).scatter_(0, place, pair)[:capacity]
        real_V = torch.arange(capacity, device=flat.device) < ends_K[-1]
        ends_K = torch.cat([ends_K[:-1], ends_K.new_full((1,), capacity)])
        return cls(pair_V % num_rows, pair_V // num_rows, ends_K, num_rows, real_V)

    @classmethod
    def own(cls, scenario_B: Tensor, num_scenarios: int) -> Routing:
        """Every row visits its own scenario only."""
        # Unlike of_mask without capacity, a sort does not wait for the device
        scenario_V, row_V = torch.sort(scenario_B, stable=True)
        return cls(row_V, scenario_V, _ends(scenario_V, num_scenarios), scenario_B.shape[0])

    @classmethod
    def own_and_shared(
        cls, scenario_B: Tensor, shared_B: Tensor, num_scenarios: int, capacity: int | None = None
    ) -> Routing:
        """Every row visits its own scenario; rows with shared_B visit all others too."""
        return cls.of_mask(own_mask(scenario_B, num_scenarios) | shared_B, capacity)

    @classmethod
    def everywhere(cls, num_rows: int, num_scenarios: int, device: torch.device) -> Routing:
        """Every row visits every scenario, ordered [K, B]."""
        rows_B = torch.arange(num_rows, device=device)
        scenarios_K = torch.arange(num_scenarios, device=device)
        ends_K = ((scenarios_K + 1) * num_rows).to(torch.int32)
        return cls(rows_B.repeat(num_scenarios), scenarios_K.repeat_interleave(num_rows), ends_K, num_rows)

    def of_labels(self, labels: int, num_labels: int) -> tuple[Routing, Tensor]:
        """Every visit once for each of the first `labels` labels: tower scenario * num_labels + label of
        K * num_labels towers. Also the new visits' places, [labels, V], in the order of the visits of `self`.

        Padding stays at the end. Nothing waits for the device.
        """
        num_towers = self.ends_K.shape[0] * num_labels
        tower_TV = self.scenario_V * num_labels + torch.arange(labels, device=self.scenario_V.device)[:, None]
        if self.real_V is not None:
            tower_TV = torch.where(self.real_V, tower_TV, num_towers)
        tower, order = torch.sort(tower_TV.flatten(), stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(order.shape[0], device=order.device)
        real = None if self.real_V is None else tower < num_towers
        tower = tower.clamp(max=num_towers - 1)
        towers = Routing(
            self.row_index_V.repeat(labels).index_select(0, order), tower, _ends(tower, num_towers), self.num_rows, real
        )
        return towers, place.view(labels, self.row_index_V.shape[0])

    def present_K(self) -> Tensor:
        """[K] bool: whether a scenario has visits, padding not counted."""
        count_K = torch.diff(self.ends_K, prepend=self.ends_K.new_zeros(1))
        if self.real_V is not None:
            count_K = torch.cat([count_K[:-1], count_K[-1:] - (~self.real_V).sum()])
        return count_K > 0

    def to_rows(self, values_V: Tensor) -> Tensor:
        """values_V of an `own` routing in row order, [B, ...]."""
        place_B = torch.empty_like(self.row_index_V)
        place_B[self.row_index_V] = torch.arange(self.num_rows, device=place_B.device)
        return values_V.index_select(0, place_B)


def own_mask(scenario_B: Tensor, num_scenarios: int) -> Tensor:
    """[K, B] bool: True at each row's own scenario."""
    return torch.arange(num_scenarios, device=scenario_B.device)[:, None] == scenario_B


def _ends(scenario_sorted_V: Tensor, num_scenarios: int) -> Tensor:
    known_K = torch.arange(num_scenarios, device=scenario_sorted_V.device)
    return torch.searchsorted(scenario_sorted_V, known_K, right=True).to(torch.int32)
