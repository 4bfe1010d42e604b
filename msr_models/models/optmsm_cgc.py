"""OptMSM with the transfer of PLE: experts of a scenario's own beside shared ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from msr_models.models.optmsm import OptMSM, OptMSMConfig
from msr_models.models.registry import register
from msr_models.modules.transfer import CustomisedTransfer, Transfer


@dataclass(frozen=True, kw_only=True, slots=True)
class OptMSMCGCConfig(OptMSMConfig):
    """As OptMSMConfig; own_experts: of each scenario. The paper has two of each kind."""

    own_experts: Annotated[int, Field(ge=1)] = 2
    shared_experts: Annotated[int, Field(ge=1)] = 2


@register("optmsm_cgc", OptMSMCGCConfig)
class OptMSMCGC(OptMSM):
    """OptMSM(CGC): r^m mixes scenario m's experts and the shared ones (Tang et al. 2023, section 4.2 and 5.3).

    Cost: a visit runs own_experts + shared_experts networks, whatever K is, each with more than twice the products of
    one of SharedBottom's default towers: with the paper's four a step takes five to seven times SharedBottom's.

    >>> model = build_model("optmsm_cgc", {"own_experts": 1}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    config: OptMSMCGCConfig

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
