"""Towers whose layers' inputs are scaled by a small network on the towers' input.

Suffixes: I width of the input, H hidden width of the hypernetwork per layer, G of all layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.dense import Dense
from msr_models.modules.module_list import ModuleList
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import stacked_layers


class HyperTowers(nn.Module):
    """K towers: R_l ← R_l ⊗ scale_l(R_0) before each layer l, the logit's too (Tang et al. 2023, eq. 10-13).

    R_l is the input of layer l: R_0 the towers' input, then the outputs of the ReLU layers. hyper_hidden None: towers
    without scales. The logit is a linear layer in fp32.
    """

    def __init__(
        self,
        num_scenarios: int,
        in_width: int,
        hidden: Sequence[int],
        hyper_hidden: int | None,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths = [in_width, *hidden, 1]
        self.layers = stacked_layers(num_scenarios, widths, generator)
        self.hypernetwork = None if hyper_hidden is None else Hypernetwork(in_width, hyper_hidden, widths, generator)
        self.dropout = dropout

    def forward(self, x_VI: Tensor, routing: Routing) -> Tensor:
        """Logits [V] of visits sorted by scenario, fp32."""
        scales = None if self.hypernetwork is None else self.hypernetwork(x_VI)
        h = x_VI
        for number, layer in enumerate(self.layers):
            if number:
                h = F.dropout(F.relu(h), self.dropout, self.training)
            h = layer(h if scales is None else h * scales[number], routing)
        return h.squeeze(1)


class Hypernetwork(nn.Module):
    """scale_l = 2 σ(w_1l relu(w_0l R_0 + b_0l) + b_1l), one pair of layers for each l (Tang et al. 2023, eq. 11).

    All scenarios share the weights; R_0 holds the scenario's vector. The first layers are one product. Initial weights:
    Xavier-uniform, biases zero, so that scales start about 1.
    """

    def __init__(self, in_width: int, hidden: int, widths: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        scaled = widths[:-1]
        self.first = Dense(in_width, hidden * len(scaled), generator, parts=len(scaled))
        self.second = ModuleList(Dense(hidden, width, generator) for width in scaled)

    def forward(self, x_VI: Tensor) -> list[Tensor]:
        """One [V, width of layer l's input] for each layer l."""
        h_VG: Tensor = F.relu(self.first(x_VI), inplace=True)
        parts = h_VG.chunk(len(self.second), dim=1)
        return [2 * layer(h_VH).sigmoid() for layer, h_VH in zip(self.second, parts, strict=True)]
