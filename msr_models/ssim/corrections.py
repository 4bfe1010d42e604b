"""What a tower trained for a few epochs has not learned yet about single ids, estimated from its residuals."""

from __future__ import annotations

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.modules.id_rows import IdRows


class WideCorrections:
    """One additive logit per scenario and id of every single-valued field: weight_RK over the rows of the embedding.

    A wide part (Cheng et al. 2016) fitted in one step behind the frozen towers. With residuals r_i = y_i - p_i and
    h_i = p_i (1 - p_i) of the rows with id v in scenario k, summed to R and H, the weight is R / (H + 1 / t): a Newton
    step under the prior N(0, t). t is the variance that such effects have among the ids of the field (method of
    moments, t = (Σ R² - Σ H) / Σ H², empirical Bayes); where residuals scatter no more than labels do it is 0 and
    nothing is corrected. So a sparse scenario's rare ids are hardly corrected, and its frequent ones are.
    """

    def __init__(self, layout: FieldLayout, num_scenarios: int, device: torch.device) -> None:
        self.slots = [
            (f, slot, start, rows)
            for f, (slot, slots, start, rows) in enumerate(
                zip(layout.slot_starts, layout.num_slots, layout.row_starts, layout.num_rows, strict=True)
            )
            if slots == 1
        ]
        self.id_rows = IdRows(layout).to(device)
        self.weight_RK = torch.zeros(layout.total_rows, num_scenarios, device=device)

    def fit(
        self,
        own_logits_N: Tensor,
        label_N: Tensor,
        scenario_N: Tensor,
        slot_ids_NS: Tensor,
        weight_N: Tensor | None = None,
    ) -> None:
        """Fit from each row's logit in its own tower [N], field after field on what residuals are left.

        weight_N float64: factors of residuals and curvatures.
        """
        logits_N, num_scenarios = own_logits_N.double(), self.weight_RK.shape[1]
        for f, slot, start, rows in self.slots:
            ids_N = self.id_rows(slot_ids_NS[:, slot], f).long()
            cell_N = scenario_N * rows + ids_N
            p_N = logits_N.sigmoid()
            error_N, slope_N = label_N - p_N, p_N * (1.0 - p_N)
            if weight_N is not None:
                error_N, slope_N = weight_N * error_N, weight_N * slope_N
            residual_KR = _sums(error_N, cell_N, num_scenarios, rows)
            curvature_KR = _sums(slope_N, cell_N, num_scenarios, rows)
            spread_K1 = (residual_KR.square() - curvature_KR).sum(1, keepdim=True)
            variance_K1 = spread_K1.clamp(min=0.0) / curvature_KR.square().sum(1, keepdim=True).clamp(min=1e-12)
            weight_KR = variance_K1 * residual_KR / (variance_K1 * curvature_KR + 1.0)
            logits_N = logits_N + weight_KR.flatten()[cell_N]
            self.weight_RK[start : start + rows] = weight_KR.t().float()

    def of_batch(self, batch: Batch) -> Tensor:
        """Corrections [B, K] of every tower's logit."""
        total_BK = self.weight_RK.new_zeros(len(batch), self.weight_RK.shape[1])
        for f, slot, start, _ in self.slots:
            total_BK += self.weight_RK.index_select(0, start + self.id_rows(batch.slot_ids_BS[:, slot], f).long())
        return total_BK


def _sums(values_N: Tensor, cell_N: Tensor, num_scenarios: int, rows: int) -> Tensor:
    return torch.bincount(cell_N, weights=values_N, minlength=num_scenarios * rows).view(num_scenarios, rows)
