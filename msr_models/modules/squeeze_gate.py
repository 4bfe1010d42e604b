"""Squeeze-and-excitation per scenario: weights of the input vectors. Suffix: C common input vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedLinear


class SqueezeGate(nn.Module):
    """e^m = [z_1 e_1 ; ... ; z_C e_C], z = σ(W^m [mean(e_1) ... mean(e_C)] + b^m) (Tang et al. 2023, eq. 5).

    mean: over the D elements of a vector, so that W^m is [C, C]. Initial weights: Xavier-uniform, biases zero.
    """

    def __init__(self, num_scenarios: int, num_vectors: int, generator: torch.Generator) -> None:
        super().__init__()
        self.excite = StackedLinear(num_scenarios, num_vectors, num_vectors, generator)

    def forward(self, e_BCD: Tensor, routing: Routing) -> Tensor:
        """[V, C * D]: the rows of the visits, each vector scaled by its scenario's weight."""
        squeezed_VC = e_BCD.mean(2).index_select(0, routing.row_index_V)
        z_VC = self.excite(squeezed_VC, routing).sigmoid()
        scaled_VCD: Tensor = e_BCD.index_select(0, routing.row_index_V) * z_VC[:, :, None]
        return scaled_VCD.flatten(1)
