"""OptMSM with the transfer of MMoE: shared experts and a gate per scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from msr_models.models.optmsm import OptMSM, OptMSMConfig
from msr_models.models.registry import register
from msr_models.modules.transfer import MixtureTransfer, Transfer


@dataclass(frozen=True, kw_only=True, slots=True)
class OptMSMMoEConfig(OptMSMConfig):
    """As OptMSMConfig; num_experts None: two per scenario, as in the paper."""

    num_experts: Annotated[int, Field(ge=1)] | None = None


@register("optmsm_moe", OptMSMMoEConfig)
class OptMSMMoE(OptMSM):
    """OptMSM(MoE): r^m = Σ_e softmax(W^m e_c^m)_e MLP_e(e_c^m) (Tang et al. 2023, section 4.2 and 5.3).

    Cost: every expert, with more than twice the products of one of SharedBottom's default towers, runs once per visit,
    as in MMoE once per row. With the paper's two experts per scenario a step grows with K: at K = 12 it takes 24
    networks and some thirty times SharedBottom's; num_experts bounds it.

    >>> model = build_model("optmsm_moe", {"num_experts": 4}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    config: OptMSMMoEConfig

    def _transfer(self, in_width: int, generator: torch.Generator) -> Transfer:
        config = self.config
        num_experts = config.num_experts or 2 * self.num_scenarios
        return MixtureTransfer(
            self.num_scenarios, in_width, num_experts, config.transfer_hidden, config.dropout, generator
        )
