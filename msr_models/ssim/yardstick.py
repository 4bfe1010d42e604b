"""How far towers disagree over a row, as a part of what they say about it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from msr_models.ssim.objective import expected_excess


@dataclass(frozen=True, slots=True)
class CommonScale:
    """What is the same for all rows and so tells nothing of one: mean logit of each tower [K], their common mean (the
    base rate as a logit, weighted as the pairs of towers are), and the mean signal of a row.
    """

    centre_K: Tensor
    base: Tensor
    signal: Tensor

    @classmethod
    def of(cls, logits_NK: Tensor, weights_KK: Tensor) -> CommonScale:
        """From all rows, or a sample of them. weights_KK: see `objective.pair_weights`."""
        centre_K = logits_NK.double().mean(dim=0)
        base = (centre_K * weights_KK.sum(dim=1)).sum()
        z_NK = logits_NK.double() - centre_K + base
        return cls(centre_K, base, signal(z_NK, base, weights_KK).mean())

    def without_offsets(self, logits_BK: Tensor) -> Tensor:
        """Logits on the common base rate, float64: a scenario that converts more often says so of every row."""
        return logits_BK.double() - self.centre_K + self.base


def signal(z_BK: Tensor, base: Tensor, weights_KK: Tensor) -> Tensor:
    """What the towers say about a row [B], nats: weighted mean over pairs of the two towers' own mean divergence (both
    ways) from the base rate, (p_k - p_0)(z_k - z_0) / 2.
    """
    said_BK = (z_BK.sigmoid() - base.sigmoid()) * (z_BK - base) / 2
    return said_BK @ weights_KK.sum(dim=1)


def relative_excess(logits_BK: Tensor, weights_KK: Tensor, scale: CommonScale) -> Tensor:
    """Disagreement of the towers over a row as a part of their signal [B], float64, >= 0.

    `objective.expected_excess` of logits without the scenarios' offsets, divided by the row's signal and the mean
    signal of all rows: users and items of whom towers say much are not the less shareable for it, and the mean in the
    denominator keeps rows of whom they say nothing near 0.
    """
    z_BK = scale.without_offsets(logits_BK)
    return _ratio(expected_excess(z_BK, weights_KK), signal(z_BK, scale.base, weights_KK), scale)


def relative_excess_of_drawn(logits_BT: Tensor, towers_BT: Tensor, weights_KK: Tensor, scale: CommonScale) -> Tensor:
    """The same from T towers per row, drawn by `sampled.draw_tower_sets`, [B] float64: over the pairs among them, whose
    weights are scaled to sum to 1. With T = K nothing is estimated; with fewer, pairs that can be believed more (see
    `objective.pair_weights`) count more often.
    """
    z_BT = logits_BT.double() - scale.centre_K[towers_BT] + scale.base
    p_BT = z_BT.sigmoid()
    weights_BTT = weights_KK[towers_BT[:, :, None], towers_BT[:, None, :]]
    weights_BTT = weights_BTT / weights_BTT.sum(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    apart_BTT = (p_BT[:, :, None] - p_BT[:, None, :]) * (z_BT[:, :, None] - z_BT[:, None, :]) / 2
    said_BT = (p_BT - scale.base.sigmoid()) * (z_BT - scale.base) / 2
    return _ratio((weights_BTT * apart_BTT).sum(dim=(1, 2)), (weights_BTT.sum(dim=2) * said_BT).sum(dim=1), scale)


def _ratio(excess_B: Tensor, signal_B: Tensor, scale: CommonScale) -> Tensor:
    # Towers that never say anything disagree over nothing
    return excess_B / (signal_B + scale.signal).clamp(min=torch.finfo(torch.float64).tiny)
