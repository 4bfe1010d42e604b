"""OptMSM with MMoE's transfer: shared experts and a gate per scenario."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from msr_models.models.config import Size
from msr_models.models.optmsm import OptMSM, OptMSMConfig
from msr_models.models.registry import register
from msr_models.modules.transfer import MixtureTransfer, Transfer


@dataclass(frozen=True, kw_only=True, slots=True)
class OptMSMMoEConfig(OptMSMConfig):
    """num_experts: None is two per scenario, as in the paper."""

    num_experts: Size | None = None


@register("optmsm_moe", OptMSMMoEConfig)
class OptMSMMoE(OptMSM[OptMSMMoEConfig]):
    """OptMSM(MoE): r^m = Σ_e softmax(W^m e_c^m)_e MLP_e(e_c^m) (Tang et al. 2023, section 4.2 and 5.3).

    Cost: every expert, with more than twice the products of SharedBottom's default tower, runs once per visit (in MMoE
    once per row). With the paper's two experts per scenario a step at K = 12 runs 24 networks per visit and takes some
    thirty times SharedBottom's time; num_experts limits it.

    >>> model = build_model("optmsm_moe", {"num_experts": 4}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def _transfer(self, in_width: int, generator: torch.Generator) -> Transfer:
        config = self.config
        num_experts = config.num_experts or 2 * self.num_scenarios
        return MixtureTransfer(
            self.num_scenarios, in_width, num_experts, config.transfer_hidden, config.dropout, generator
        )
