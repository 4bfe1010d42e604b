"""How far towers disagree over a row, relative to how far they depart from the base rate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from msr_models.modules.weighted import weighted_mean
from msr_models.ssim.objective import expected_excess


@dataclass(frozen=True, slots=True)
class CommonScale:
    """What all rows have in common: mean logit of each tower [K], their common mean (the base rate as a logit, weighted
    as the pairs of towers are), and the mean signal of a row.
    """

    centre_K: Tensor
    base: Tensor
    signal: Tensor

    @classmethod
    def of(cls, logits_NK: Tensor, weights_KK: Tensor, weight_N: Tensor | None = None) -> CommonScale:
        """From all rows, or a sample of them. weights_KK: see `objective.pair_weights`; weight_N float64: of rows."""
        if weight_N is None:
            centre_K = logits_NK.double().mean(dim=0)
        else:
            centre_K = weight_N @ logits_NK.double() / weight_N.sum()
        base = (centre_K * weights_KK.sum(dim=1)).sum()
        z_NK = logits_NK.double() - centre_K + base
        return cls(centre_K, base, weighted_mean(signal(z_NK, base, weights_KK), weight_N))

    def without_offsets(self, logits_BK: Tensor) -> Tensor:
        """Logits [B, K] on the common base rate, float64: a scenario's own base rate is no disagreement over a row."""
        return logits_BK.double() - self.centre_K + self.base


def signal(z_BK: Tensor, base: Tensor, weights_KK: Tensor) -> Tensor:
    """Signal [B] of the towers on a row, nats: weighted mean over pairs of the two towers' own mean divergence (both
    ways) from the base rate, (p_k - p_0)(z_k - z_0) / 2.
    """
    signal_BK = (z_BK.sigmoid() - base.sigmoid()) * (z_BK - base) / 2
    return signal_BK @ weights_KK.sum(dim=1)


def relative_excess(logits_BK: Tensor, weights_KK: Tensor, scale: CommonScale) -> Tensor:
    """Disagreement of the towers over a row relative to their signal [B], float64, >= 0.

    `objective.expected_excess` of logits without the scenarios' offsets, divided by the row's signal and the mean
    signal of all rows: a strong signal does not make a row less shareable, and the mean in the denominator keeps rows
    without signal near 0.
    """
    z_BK = scale.without_offsets(logits_BK)
    return _ratio(expected_excess(z_BK, weights_KK), signal(z_BK, scale.base, weights_KK), scale)


def relative_excess_of_drawn(logits_BT: Tensor, towers_BT: Tensor, weights_KK: Tensor, scale: CommonScale) -> Tensor:
    """The same from T towers per row, drawn by `sampled.draw_tower_sets`, [B] float64: over the pairs among them, whose
    weights are scaled to sum to 1. With T = K it is exact; with fewer, pairs of more weight (`objective.pair_weights`)
    are drawn more often.
    """
    z_BT = logits_BT.double() - scale.centre_K[towers_BT] + scale.base
    p_BT = z_BT.sigmoid()
    weights_BTT = weights_KK[towers_BT[:, :, None], towers_BT[:, None, :]]
    weights_BTT = weights_BTT / weights_BTT.sum(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    apart_BTT = (p_BT[:, :, None] - p_BT[:, None, :]) * (z_BT[:, :, None] - z_BT[:, None, :]) / 2
    signal_BT = (p_BT - scale.base.sigmoid()) * (z_BT - scale.base) / 2
    return _ratio((weights_BTT * apart_BTT).sum(dim=(1, 2)), (weights_BTT.sum(dim=2) * signal_BT).sum(dim=1), scale)


def _ratio(excess_B: Tensor, signal_B: Tensor, scale: CommonScale) -> Tensor:
    # Towers without any signal do not disagree either
    return excess_B / (signal_B + scale.signal).clamp(min=torch.finfo(torch.float64).tiny)
