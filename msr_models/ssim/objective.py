"""What the gate is trained on: SSIM eq. 6 and 13 (`joint`), and the disagreement of kept towers (`reference`, whose
whole formula stands in reference.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.models.base import MultiScenarioModel
from msr_models.modules.routing import Routing, own_mask
from msr_models.modules.weighted import weighted_mean
from schemas.pipeline_spec import TowerReduction


def gated_logits(model: MultiScenarioModel, batch: Batch, gate_B: Tensor) -> tuple[Tensor, Tensor | None]:
    """(logits_BK of every tower on every row, with a gradient to the model only where eq. 13 gives one; the model's
    penalty on the visits that train it, None where it has none).

    A tower that is not the row's own has the factor g_i: with g_i = 0 its logit is needed (for dL/dg) but its gradient
    is zero, so it is computed forward only. For a model whose visits are independent, logits and gradients are those of
    `model.scenario_logits`. For one with batch moments in training (STAR) they are not: the visits that train are
    normalised with their own moments alone, and the forward-only ones with the running moments.
    """
    e_BE = model.embed(batch)
    if model.visits_are_independent and e_BE.device.type != "cpu" and not has_penalty(model):
        # On a GPU all towers at once cost less than the launches, and the waiting, of two routed passes.
        return model.scenario_logits(e_BE, batch), None
    trained_KB = own_mask(batch.scenario_B, model.num_scenarios) | (gate_B.detach() > 0)
    trained, rest = Routing.of_mask(trained_KB), Routing.of_mask(~trained_KB)
    logits_BK = torch.zeros(len(batch), model.num_scenarios, device=e_BE.device)
    with torch.no_grad():
        at_rest = model.routed_logits(e_BE, batch, rest)
        logits_BK[rest.row_index_V, rest.scenario_V] = at_rest
    at_trained, penalty = model.penalised_logits(e_BE, batch, trained)
    return logits_BK.index_put((trained.row_index_V, trained.scenario_V), at_trained), penalty


def has_penalty(model: MultiScenarioModel) -> bool:
    """Whether the model trains with a penalty of its own, which only routed visits give."""
    return type(model).penalised_network_logits is not MultiScenarioModel.penalised_network_logits


def tower_losses(logits_BK: Tensor, label_B: Tensor) -> Tensor:
    """Cross entropy [B, K] of every tower on every row's label, in nats."""
    return F.binary_cross_entropy_with_logits(logits_BK, label_B[:, None].expand_as(logits_BK), reduction="none")


def of_own_tower(values_BK: Tensor, scenario_B: Tensor) -> Tensor:
    """Column [B] of each row's own scenario."""
    return values_BK.gather(1, scenario_B[:, None]).squeeze(1)


def shared_instance_loss(
    gate_B: Tensor,
    losses_BK: Tensor,
    scenario_B: Tensor,
    reduction: TowerReduction = "mean",
    weight_B: Tensor | None = None,
) -> Tensor:
    """Eq. 13, (weighted) mean over rows: (1 - g_i) * own loss + g_i * (mean or sum of all towers' losses).

    Differentiable in g in both terms: B * dL/dg_i = reduced tower loss - own loss. Eq. 13 sums over
    towers; `mean` divides by K, which gives a shared row the weight of any other row.
    """
    own_B = of_own_tower(losses_BK, scenario_B)
    all_B = losses_BK.mean(dim=1) if reduction == "mean" else losses_BK.sum(dim=1)
    return weighted_mean((1.0 - gate_B) * own_B + gate_B * all_B, weight_B)


def pair_weights(rows_K: Tensor) -> Tensor:
    """Precision of the disagreement of two towers, [K, K] float64, zero diagonal, sum 1 (0 without pairs).

    n_j n_k / (n_j + n_k) of the rows they were trained on: the inverse variance of a difference of two means.
    """
    n_K = rows_K.double()
    weights_KK = n_K[:, None] * n_K[None, :] / (n_K[:, None] + n_K[None, :]).clamp(min=1.0)
    weights_KK.fill_diagonal_(0.0)
    total = weights_KK.sum()
    return weights_KK / total if float(total) > 0 else weights_KK


def expected_excess(logits_BK: Tensor, weights_KK: Tensor) -> Tensor:
    """Label-free excess loss [B] of sharing a row, float64, nats: what towers lose under each other's probabilities.

    Weighted mean over pairs of (KL(p_j || p_k) + KL(p_k || p_j)) / 2 = (p_j - p_k)(z_j - z_k) / 2 for weights that sum
    to 1. Multiplied out with symmetric w it needs no [B, K, K]: sum_j W_j p_j z_j - p w z, with W_j = sum_k w_jk.
    """
    z_BK = logits_BK.double()
    p_BK = z_BK.sigmoid()
    # Only differences count: centred logits keep the two terms small beside what is left of them.
    z_BK = z_BK - z_BK.mean(dim=1, keepdim=True)
    own_B = (p_BK * z_BK) @ weights_KK.sum(dim=1)
    cross_B = (p_BK * (z_BK @ weights_KK)).sum(dim=1)
    return (own_B - cross_B).clamp(min=0.0)
