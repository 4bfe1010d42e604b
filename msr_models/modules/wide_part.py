"""A linear model of the ids beside a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.modules.inputs import InputLayer


class WidePart(nn.Module):
    """Σ_f w[id_f] (+ mean over behaviours of w[item] and its attributes') [B] fp32: the wide part of Cheng et al. 2016
    without crosses.

    w: one weight per id of every field, and one per dense value, which it is multiplied with; common to all scenarios,
    zero at first; a multi-valued field counts with the mean of its ids. The trainer fits it before the network's first
    step (training/regression.py), so that the network begins with the best linear model and learns what that cannot
    say. Where rows are streamed it is trained by steps.
    """

    def __init__(self, layout: FieldLayout, reads_behaviours: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.inputs = InputLayer(layout, 1, "mean" if reads_behaviours else "none", generator)
        self.inputs.table.adopt(torch.zeros_like(self.inputs.table.rows_of_terms()))

    def forward(self, batch: Batch) -> Tensor:
        """[B] fp32."""
        total_B: Tensor = self.inputs.concatenated(batch).float().sum(1)
        return total_B

    @torch.no_grad()
    def adopt(self, weight_R: Tensor) -> None:
        """Take over fitted weights."""
        self.inputs.table.adopt(weight_R[:, None])
