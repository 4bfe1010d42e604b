"""Weights of neurons by scenario, which may be 0 and so cut a neuron (AdaSparse).

Suffix: H neurons of a layer.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

NeuronForm = Literal["binarisation", "scaling", "fusion"]


def neuron_weights(
    v_VH: Tensor, alpha: Tensor, form: NeuronForm, beta: float, epsilon: float
) -> tuple[Tensor, Tensor | None]:
    """(π_VH, kept_VH) (Yang et al. 2022). kept: 1 where π is not 0, else 0; None for `scaling`, which cuts nothing.

    binarisation: π = 1[σ(αv) > ε]. scaling: π = β·σ(v). fusion: π = β·σ(αv) where that exceeds ε, else 0.
    Gradients: 1[·] has that of σ(αv) (straight-through); π of `fusion` that of β·σ(αv) where it is kept.
    """
    if form == "scaling":
        return beta * v_VH.sigmoid(), None
    soft_VH = (alpha * v_VH).sigmoid()
    weight_VH = soft_VH if form == "binarisation" else beta * soft_VH
    is_kept_VH = weight_VH > epsilon
    # The added difference is exactly 0: it only carries the gradient
    kept_VH = is_kept_VH.to(v_VH.dtype) + (soft_VH - soft_VH.detach())
    return (kept_VH if form == "binarisation" else torch.where(is_kept_VH, weight_VH, 0.0)), kept_VH


def sparsity_excess(kept_VH: Tensor, least: float, most: float) -> Tensor:
    """(r − (least + most) / 2)² where r, the share of cut neurons, is outside [least, most], else 0; [V].

    The paper's λ·|r − r_target| with λ in proportion to |r − r_target| outside the range.
    """
    sparsity_V = 1.0 - kept_VH.mean(1)
    is_outside_V = (sparsity_V < least) | (sparsity_V > most)
    return torch.where(is_outside_V, (sparsity_V - (least + most) / 2).square(), 0.0)
