"""MARIA's modules on the fields' vectors: refiners per field, mixed by scenario, and correlations between fields.

Suffixes: R refiners of a field, O their output width, P pairs of fields.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.dense import xavier_uniform_
from msr_models.modules.stacked import rows_of


class FieldRefinement(nn.Module):
    """f'_i = Σ_r softmax(S_i s + c_i)_r ReLU(W_ir f_i + b_ir), s the vector of the scenario (Tian et al. 2023).

    The softmax is computed once per scenario. Initial weights: Xavier-uniform per refiner and selector, biases zero.
    """

    def __init__(
        self, num_fields: int, width: int, num_refiners: int, scenario_width: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.weight_DFRO = nn.Parameter(torch.empty(width, num_fields, num_refiners, width))
        self.bias_1FRO = nn.Parameter(torch.zeros(1, num_fields, num_refiners, width))
        self.selector_JFR = nn.Parameter(torch.empty(scenario_width, num_fields, num_refiners))
        self.selector_bias_1FR = nn.Parameter(torch.zeros(1, num_fields, num_refiners))
        xavier_uniform_(self.weight_DFRO, 2 * width, generator)
        xavier_uniform_(self.selector_JFR, scenario_width + num_refiners, generator)

    def forward(self, x_VFD: Tensor, scenario_KJ: Tensor, scenario_V: Tensor) -> Tensor:
        """[V, F, O]."""
        refined_VFRO = torch.einsum("vfd,dfro->vfro", x_VFD, self.weight_DFRO)
        refined_VFRO = F.relu(refined_VFRO + self.bias_1FRO.to(refined_VFRO.dtype))
        scores_KFR = torch.einsum("kj,jfr->kfr", scenario_KJ, self.selector_JFR) + self.selector_bias_1FR
        share_VS = rows_of(scores_KFR.softmax(2).flatten(1), scenario_V)
        share_VFR1 = share_VS.view(*refined_VFRO.shape[:3], 1)
        return (refined_VFRO * share_VFR1.to(refined_VFRO.dtype)).sum(2)


class PairwiseProducts(nn.Module):
    """<f_i, f_j> of all pairs of fields i < j: [V, F, D] -> [V, P], P = F (F - 1) / 2, pairs in row-major order."""

    pair_P: Tensor

    def __init__(self, num_fields: int) -> None:
        super().__init__()
        first_P, second_P = torch.triu_indices(num_fields, num_fields, offset=1)
        self.register_buffer("pair_P", first_P * num_fields + second_P, persistent=False)

    @property
    def num_pairs(self) -> int:
        """P."""
        return len(self.pair_P)

    def forward(self, x_VFD: Tensor) -> Tensor:
        """[V, P]."""
        products_VFF = torch.bmm(x_VFD, x_VFD.transpose(1, 2))
        return products_VFF.flatten(1).index_select(1, self.pair_P)
