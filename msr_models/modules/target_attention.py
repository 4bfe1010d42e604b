"""Target attention of DIN: what a row's item asks of the behaviours."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class TargetAttention(nn.Module):
    """Σ_l a(e_l, q) e_l over the real behaviours (Zhou et al. 2018, eq. 3), q the vector of the row's item.

    a: the paper's local activation unit, one hidden layer of 36 with PReLU on both vectors and their "out product", for
    which we take what the authors' code takes: [e_l, q, e_l - q, e_l ⊙ q]. As in the paper its answers are not
    normalised to 1 (their code does it): their size says how strong the interest is. Initial weights: Xavier-uniform,
    biases zero.

    The 4D-wide input is never made. What a row's q does to e_l is linear: h_l = e_l (W_e + W_d + diag(q) W_p)
    + q (W_q - W_d) + b, one small product per row; and PReLU is s h + (1 - s) ReLU(h), s going into the head.

    >>> attention = TargetAttention(16, torch.Generator().manual_seed(1))
    >>> pooled_BD = attention(item_BD, history_BLD, is_real_BL)
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
        weight_BL = torch.where(mask_BL, self.weights(query_BD, keys_BLD), 0.0)
        return torch.bmm(weight_BL[:, None], keys_BLD.to(weight_BL.dtype)).squeeze(1)

    def weights(self, query_BD: Tensor, keys_BLD: Tensor) -> Tensor:
        """a(e_l, q) of every place, padding too, [B, L]."""
        of_key_DH, of_query_DH, of_difference_DH, of_product_DH = self.weight_IH.chunk(4)
        asked_BH = query_BD @ (of_query_DH - of_difference_DH) + self.bias_H
        by_row_BDH = query_BD[:, :, None] * of_product_DH + (of_key_DH + of_difference_DH)
        h_BLH = torch.baddbmm(asked_BH[:, None], keys_BLD, by_row_BDH)
        h_NH = h_BLH.flatten(0, 1)
        weight_N = h_NH @ (self.head_H * self.slope_H) + torch.relu(h_NH) @ (self.head_H * (1.0 - self.slope_H))
        return (weight_N + self.head_bias.to(weight_N.dtype)).view(keys_BLD.shape[:2])
