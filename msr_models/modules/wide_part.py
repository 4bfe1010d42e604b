"""A linear model of the ids beside a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.modules.inputs import InputLayer

RATE_SCALE = 10.0


class WidePart(nn.Module):
    """Σ_f w[id_f] (+ mean over behaviours of w[item]) [B] fp32: the wide part of Cheng et al. 2016 without crosses.

    w: one weight per id of every field, common to all scenarios, zero at first; a multi-valued field counts with the
    mean of its ids. It learns what single ids do at RATE_SCALE times the rate of the network, whose vectors take
    longer: a weight has to reach its id's log odds by itself.
    """

    def __init__(self, layout: FieldLayout, reads_behaviours: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.inputs = InputLayer(layout, 1, "mean" if reads_behaviours else "none", generator)
        self.inputs.embedding.learning_rate_scale = RATE_SCALE
        nn.init.zeros_(self.inputs.embedding.weight)

    def forward(self, batch: Batch) -> Tensor:
        """[B] fp32."""
        total_B: Tensor = self.inputs.concatenated(batch).float().sum(1)
        return total_B
