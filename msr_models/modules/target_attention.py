"""Target attention of DIN: behaviours weighted by their relevance to the row's item."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msr_models.modules.dense import xavier_uniform_


class TargetAttention(nn.Module):
    """Σ_l a(e_l, q) e_l over the real behaviours (Zhou et al. 2018, eq. 3), q the vector of the row's item.

    a: the paper's local activation unit, one hidden layer of 36 with PReLU on [e_l, q, e_l - q, e_l ⊙ q], the input of
    the authors' code. As in the paper (not in that code) weights are not normalised: their size is the strength of the
    interest. The sum grows with the number of behaviours; is_mean divides it by that number, so that long histories
    reach a network in the size of short ones. Initial weights: Xavier-uniform, biases zero.

    The input of width 4D is not materialised: h_l = e_l (W_e + W_d + diag(q) W_p) + q (W_q - W_d) + b, one small
    product per row; PReLU is s h + (1 - s) ReLU(h), with s multiplied into the head.

    >>> attention = TargetAttention(16, torch.Generator().manual_seed(1))
    >>> pooled_BD = attention(item_BD, history_BLD, is_real_BL)
    """

    def __init__(self, width: int, generator: torch.Generator, hidden: int = 36, *, is_mean: bool = False) -> None:
        super().__init__()
        self.is_mean = is_mean
        self.weight_IH = nn.Parameter(torch.empty(4 * width, hidden))
        self.bias_H = nn.Parameter(torch.zeros(hidden))
        self.slope_H = nn.Parameter(torch.full((hidden,), 0.25))
        self.head_H = nn.Parameter(torch.empty(hidden))
        self.head_bias = nn.Parameter(torch.zeros(1))
        xavier_uniform_(self.weight_IH, 4 * width + hidden, generator)
        xavier_uniform_(self.head_H, hidden + 1, generator)

    def forward(self, query_BD: Tensor, keys_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """[B, D]; zeros for a row without behaviours."""
        weight_BL = torch.where(mask_BL, self.weights(query_BD, keys_BLD), 0.0)
        if self.is_mean:
            weight_BL = weight_BL / mask_BL.sum(1, keepdim=True).clamp(min=1)
        return torch.bmm(weight_BL[:, None], keys_BLD.to(weight_BL.dtype)).squeeze(1)

    def weights(self, query_BD: Tensor, keys_BLD: Tensor) -> Tensor:
        """a(e_l, q) of every place, padding included, [B, L]."""
        of_key_DH, of_query_DH, of_difference_DH, of_product_DH = self.weight_IH.chunk(4)
        from_query_BH = query_BD @ (of_query_DH - of_difference_DH) + self.bias_H
        by_row_BDH = query_BD[:, :, None] * of_product_DH + (of_key_DH + of_difference_DH)
        h_BLH = torch.baddbmm(from_query_BH[:, None], keys_BLD, by_row_BDH)
        h_NH = h_BLH.flatten(0, 1)
        weight_N = h_NH @ (self.head_H * self.slope_H) + torch.relu(h_NH) @ (self.head_H * (1.0 - self.slope_H))
        return (weight_N + self.head_bias.to(weight_N.dtype)).view(keys_BLD.shape[:2])
