"""Representations of some rows in all scenarios, computed with those of the visits, and their similarity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from msr_models.modules.routing import Routing


@dataclass(frozen=True, slots=True)
class Contrasts:
    """The visits of a routing and some rows in every scenario (contrasts) as one routing: weights are read once.

    both: V visits and K * R contrasts, sorted by scenario. place: index in `both` of each visit, in the order of the
    routing, then of each contrast, in the order [K, R].
    """

    both: Routing
    place: Tensor
    num_visits: int

    @classmethod
    def of(cls, routing: Routing, every: int) -> Contrasts:
        """Contrasts of rows 0, every, 2 * every ...; with every = 1 each visit is a contrast and computed once."""
        num_scenarios, num_rows = routing.ends_K.shape[0], routing.num_rows
        all_of_some = Routing.everywhere(len(range(0, num_rows, every)), num_scenarios, routing.row_index_V.device)
        contrasts = torch.arange(len(all_of_some.row_index_V), device=routing.row_index_V.device)
        visits = routing.scenario_V.shape[0]
        if every == 1:
            place = torch.cat([routing.scenario_V * num_rows + routing.row_index_V, contrasts])
            return cls(all_of_some, place, visits)
        scenario, order = torch.sort(torch.cat([routing.scenario_V, all_of_some.scenario_V]), stable=True)
        row = torch.cat([routing.row_index_V, all_of_some.row_index_V * every]).index_select(0, order)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        return cls(Routing(row, scenario, routing.ends_K + all_of_some.ends_K, num_rows), place, visits)

    def parted(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Representations of `both` -> (r_VH of the visits, r_KRH of the contrasts)."""
        r = r.index_select(0, self.place)
        return r[: self.num_visits], r[self.num_visits :].view(self.both.ends_K.shape[0], -1, r.shape[1])


def pairwise_cosines(r_KBH: Tensor) -> Tensor:
    """Σ_{i<j} cos(r^i, r^j) over a row's representations in all K scenarios (Tang et al. 2023, eq. 9), [B] fp32.

    For unit vectors u the sum over pairs is (|Σ u|² - Σ |u|²) / 2, without a tensor [B, K, K]. The cosine with a zero
    vector is 0.
    """
    u_KBH = F.normalize(r_KBH.float(), dim=2, eps=1e-6)
    return (u_KBH.sum(0).square().sum(1) - u_KBH.square().sum((0, 2))) / 2
