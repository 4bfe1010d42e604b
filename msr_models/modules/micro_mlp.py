"""Small MLPs per scenario, applied to every vector of a row; their parameters are slices of its embedding (DFFM)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.dense import xavier_uniform_
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import routed_product, rows_of


class MicroMlp(nn.Module):
    """D_k(x) = W_n(... ReLU(W_1 x + b_1) ...) + b_n; W_1, b_1, W_2 ... are successive slices of scenario k's embedding.

    A W is its slice reshaped to [in, out], so a bias follows each. No ReLU after the last layer. Initial weights:
    Xavier-uniform per layer, biases zero.
    """

    def __init__(self, num_scenarios: int, in_width: int, widths: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.shapes = list(pairwise((in_width, *widths)))
        parts: list[Tensor] = []
        for i, o in self.shapes:
            parts += [torch.empty(num_scenarios, i * o), torch.zeros(num_scenarios, o)]
            xavier_uniform_(parts[-2], i + o, generator)
        self.scenario_KE = nn.Parameter(torch.cat(parts, dim=1))

    def forward(self, x_VND: Tensor, routing: Routing) -> Tensor:
        """N vectors of each visit, visits sorted by scenario: [V, N, D] -> [V, N, last width]."""
        (visits, vectors, _), start = x_VND.shape, 0
        ends_K = routing.ends_K * vectors
        h = x_VND.flatten(0, 1)
        for layer, (i, o) in enumerate(self.shapes):
            weight_KIO = self.scenario_KE[:, start : start + i * o].reshape(-1, i, o).contiguous()
            bias_KO = self.scenario_KE[:, start + i * o : start + (i + 1) * o].contiguous()
            start += (i + 1) * o
            out_VNO = routed_product(F.relu(h) if layer else h, weight_KIO, ends_K).view(visits, vectors, o)
            h = (out_VNO + rows_of(bias_KO.to(out_VNO.dtype), routing.scenario_V)[:, None]).flatten(0, 1)
        return h.view(visits, vectors, self.shapes[-1][1])
