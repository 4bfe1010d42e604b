"""OptMSM with CGC's transfer: experts of the scenario beside shared ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from msr_models.models.config import Size
from msr_models.models.optmsm import OptMSM, OptMSMConfig
from msr_models.models.registry import register
from msr_models.modules.transfer import CustomisedTransfer, Transfer


@dataclass(frozen=True, kw_only=True, slots=True)
class OptMSMCGCConfig(OptMSMConfig):
    """own_experts: per scenario. The paper has two of each kind."""

    own_experts: Size = 2
    shared_experts: Size = 2


@register("optmsm_cgc", OptMSMCGCConfig)
class OptMSMCGC(OptMSM[OptMSMCGCConfig]):
    """OptMSM(CGC): r^m mixes scenario m's experts and the shared ones (Tang et al. 2023, section 4.2 and 5.3).

    Cost: a visit runs own_experts + shared_experts networks, each with more than twice the products of SharedBottom's
    default tower: with the paper's four a step takes five to seven times SharedBottom's time at any K.

    >>> model = build_model("optmsm_cgc", {"own_experts": 1}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def _transfer(self, in_width: int, generator: torch.Generator) -> Transfer:
        config = self.config
        return CustomisedTransfer(
            self.num_scenarios,
            in_width,
            config.own_experts,
            config.shared_experts,
            config.transfer_hidden,
            config.dropout,
            generator,
        )
