"""D_KL(1 || G) of SSIM eq. 14, which pulls towards sharing, in two finite forms: of a hard gate of 0 it is infinite."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from msr_models.modules.weighted import weighted_mean
from schemas.pipeline_spec import KlForm


def divergence_from_all_shared(
    form: KlForm, gate_B: Tensor, share_logits_B: Tensor, weight_B: Tensor | None = None
) -> Tensor:
    """Scalar divergence of the gate from the mask of ones; means are weighted where rows have weights.

    `bernoulli`: mean_i KL(Bernoulli(1) || Bernoulli(p_i)) = mean_i -log p_i, from logits (finite for every p).
    `linear`: 1 - mean_i g_i, the authors' e * (1 - share rate) without its constant; its gradient is the gate's.
    """
    if form == "bernoulli":
        return weighted_mean(F.softplus(-share_logits_B), weight_B)
    return 1.0 - weighted_mean(gate_B, weight_B)
