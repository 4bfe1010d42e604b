"""K cross networks (DCN) as stacked weights, with the linear logit that reads them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.dense import xavier_uniform_
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import routed_product, rows_of


class StackedCross(nn.Module):
    """Per scenario x_{l+1} = x_0 (w_l·x_l) + b_l + x_l (Wang et al. 2017, eq. 3) for `depth` layers, then u·x_depth.

    No x_l is materialised: by induction x_l = a_l x_0 + c_l with a scalar a_l per visit and a vector c_l per scenario,
    c_l = Σ_{i<l} b_i and a_{l+1} = a_l + a_l (w_l·x_0) + w_l·c_l, a_0 = 1. So all layers together are one product of
    x_0 with [w_0 ... w_{depth-1}].
    Initial weights: w and u Xavier-uniform per scenario, b zero.
    """

    def __init__(self, num_scenarios: int, width: int, depth: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight_KEL = nn.Parameter(torch.empty(num_scenarios, width, depth))
        self.bias_KLE = nn.Parameter(torch.zeros(num_scenarios, depth, width))
        self.head_KE = nn.Parameter(torch.empty(num_scenarios, width))
        xavier_uniform_(self.weight_KEL, width + 1, generator)
        xavier_uniform_(self.head_KE, width + 1, generator)

    def forward(self, x_VE: Tensor, routing: Routing) -> Tensor:
        """u·x_depth of visits sorted by scenario, [V] fp32."""
        products_VL = routed_product(x_VE, self.weight_KEL, routing.ends_K).float()
        with torch.autocast(x_VE.device.type, enabled=False):
            offsets_VL = rows_of(self._offsets(), routing.scenario_V)
            factor_V = torch.ones_like(offsets_VL[:, 0])
            for products_V, offset_V in zip(products_VL.unbind(1), offsets_VL[:, :-1].unbind(1), strict=True):
                factor_V = factor_V + factor_V * products_V + offset_V
            head_VE = rows_of(self.head_KE, routing.scenario_V)
            return factor_V * (x_VE.float() * head_VE).sum(1) + offsets_VL[:, -1]

    def _offsets(self) -> Tensor:
        """[w_0·c_0 ... w_{depth-1}·c_{depth-1}, u·c_depth] of every scenario, [K, depth + 1]."""
        readers_KLE = torch.cat([self.weight_KEL.transpose(1, 2), self.head_KE[:, None]], dim=1)
        return (readers_KLE * F.pad(self.bias_KLE.cumsum(1), (0, 0, 1, 0))).sum(2)
