"""Target attention of DIN: what a row's item asks of the behaviours."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class TargetAttention(nn.Module):
    """Σ_l a(e_l, q) e_l over the real behaviours (Zhou et al. 2018, eq. 3), q the vector of the row's item.

    a: the local activation unit, an MLP with PReLU on [e_l, q, e_l - q, e_l ⊙ q]. As in the paper its answers are not
    normalised to 1: their size says how strong the interest is. Initial weights: Xavier-uniform, biases zero.
    """

    def __init__(self, width: int, generator: torch.Generator, hidden: int = 36) -> None:
        super().__init__()
        self.weight_IH = nn.Parameter(torch.empty(4 * width, hidden))
        self.bias_H = nn.Parameter(torch.zeros(hidden))
        self.slope_H = nn.Parameter(torch.full((hidden,), 0.25))
        self.head_H = nn.Parameter(torch.empty(hidden))
        self.head_bias = nn.Parameter(torch.zeros(1))
        with torch.no_grad():
            for parameter, fans in ((self.weight_IH, 4 * width + hidden), (self.head_H, hidden + 1)):
                bound = math.sqrt(6.0 / fans)
                parameter.uniform_(-bound, bound, generator=generator)

    def forward(self, query_BD: Tensor, keys_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """[B, D]; zeros for a row without behaviours."""
        query_BLD = query_BD[:, None].expand_as(keys_BLD)
        x_BLI = torch.cat([keys_BLD, query_BLD, keys_BLD - query_BLD, keys_BLD * query_BLD], dim=2)
        h_BLH = x_BLI @ self.weight_IH + self.bias_H.to(x_BLI.dtype)
        h_BLH = torch.where(h_BLH > 0, h_BLH, h_BLH * self.slope_H.to(h_BLH.dtype))
        weight_BL = (h_BLH * self.head_H.to(h_BLH.dtype)).sum(2) + self.head_bias
        weight_BL = torch.where(mask_BL, weight_BL, 0.0)
        return (weight_BL[:, :, None] * keys_BLD).sum(1)
