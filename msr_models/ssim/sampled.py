"""Sampled towers: eq. 13 and the excess from a few towers per row, at costs that do not grow with K.

Suffixes here: M other towers drawn per row, T towers drawn per row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.models.base import MultiScenarioModel
from msr_models.modules.routing import Routing, own_mask
from msr_models.modules.weighted import weighted_mean
from msr_models.ssim.objective import has_penalty
from schemas.pipeline_spec import TowerReduction


def draw_towers(scenario_B: Tensor, num_scenarios: int, num_drawn: int, generator: torch.Generator) -> Tensor:
    """Other towers [B, M] of each row, M = min(num_drawn, K - 1): every set of M others is equally likely, and rows are
    independent. `generator` lives on the device of scenario_B.
    """
    others = num_scenarios - 1
    drawn = min(num_drawn, others)
    choices = [
        torch.randint(others - drawn + step + 1, scenario_B.shape, generator=generator, device=scenario_B.device)
        for step in range(drawn)
    ]
    return towers_of_choices(choices, scenario_B, num_scenarios)


def towers_of_choices(choices: list[Tensor], scenario_B: Tensor, num_scenarios: int) -> Tensor:
    """Floyd's sampling: M integers per row, the n-th uniform in 0 .. K - 1 - M + n, become M different other towers.

    Each set of towers belongs to equally many lists of choices. No array of K - 1 places per row is shuffled.
    """
    first_top = num_scenarios - 1 - len(choices)
    offsets: list[Tensor] = []
    for step, choice_B in enumerate(choices):
        taken_B = torch.zeros_like(choice_B, dtype=torch.bool)
        for earlier_B in offsets:
            taken_B = taken_B | (earlier_B == choice_B)
        offsets.append(torch.where(taken_B, first_top + step, choice_B))
    if not offsets:
        return scenario_B.new_zeros((len(scenario_B), 0))
    # Offset 0 is the tower after the row's own one, in a circle
    return (scenario_B[:, None] + 1 + torch.stack(offsets, dim=1)) % num_scenarios


def sampled_loss(
    model: MultiScenarioModel, batch: Batch, gate_B: Tensor, towers_BM: Tensor, reduction: TowerReduction = "mean"
) -> tuple[Tensor, Tensor | None]:
    """Eq. 13, mean over rows, with the sum over all towers estimated by own loss + (K - 1) / M * losses of towers_BM.

    Over the draws of `draw_towers` its mean is `shared_instance_loss`, and so are the means of its gradients to model
    and gate: B * dL/dg_i = estimated tower loss - own loss. A drawn tower of a row has the factor
    g_i (K - 1) / (M K) (`mean`), so with g_i = 0 it is computed forward only. With M = K - 1 nothing is estimated.
    A model whose visits depend on each other (batch moments) takes its moments from the visits drawn: there the
    estimate is of the loss under such moments. Second: the model's penalty on the visits that train, or None.
    """
    e_BE = model.embed(batch)
    own_KB = own_mask(batch.scenario_B, model.num_scenarios)
    drawn_KB = torch.zeros_like(own_KB).scatter_(0, towers_BM.t(), True)
    weights = _VisitWeights(gate_B, batch.scenario_B, model.num_scenarios, towers_BM.shape[1], reduction)
    if _in_one_pass(model, e_BE):
        # Their number is known, so nothing waits for the device; what g = 0 multiplies costs less than a second pass.
        routing = Routing.of_mask(own_KB | drawn_KB, capacity=len(batch) * (1 + towers_BM.shape[1]))
        return weights.total(model.routed_logits(e_BE, batch, routing), routing, batch), None
    shared_B = gate_B.detach() > 0
    rest = Routing.of_mask(drawn_KB & ~shared_B)
    with torch.no_grad():
        at_rest_V = model.routed_logits(e_BE, batch, rest)
    trained = Routing.of_mask(own_KB | (drawn_KB & shared_B))
    at_trained_V, penalty = model.penalised_logits(e_BE, batch, trained)
    loss = weights.total(at_trained_V, trained, batch) + weights.total(at_rest_V, rest, batch)
    return loss, penalty


def _in_one_pass(model: MultiScenarioModel, e_BE: Tensor) -> bool:
    return model.visits_are_independent and e_BE.device.type != "cpu" and not has_penalty(model)


class _VisitWeights:
    """Factor of each visit's loss in `sampled_loss`, differentiable in the gate."""

    def __init__(
        self, gate_B: Tensor, scenario_B: Tensor, num_scenarios: int, num_drawn: int, reduction: TowerReduction
    ) -> None:
        each = 1.0 / num_scenarios if reduction == "mean" else 1.0
        self.own_B = (1.0 - gate_B) + gate_B * each
        self.drawn_B = gate_B * (each * (num_scenarios - 1) / max(num_drawn, 1))
        self.scenario_B = scenario_B

    def total(self, logits_V: Tensor, routing: Routing, batch: Batch) -> Tensor:
        """Sum over visits of factor * cross entropy, divided by the rows of the batch; rows count by their weights."""
        row_V = routing.row_index_V
        labels_V = batch.label_B.index_select(0, row_V)
        losses_V = F.binary_cross_entropy_with_logits(logits_V, labels_V, reduction="none")
        is_own_V = self.scenario_B.index_select(0, row_V) == routing.scenario_V
        weight_V = torch.where(is_own_V, self.own_B.index_select(0, row_V), self.drawn_B.index_select(0, row_V))
        if batch.weight_B is None:
            return (weight_V * losses_V).sum() / len(batch)
        return weighted_mean(weight_V * losses_V, batch.weight_B.index_select(0, row_V), batch.weight_B.sum())


def draw_tower_sets(weights_KK: Tensor, num_rows: int, num_drawn: int, generator: torch.Generator) -> Tensor:
    """Different towers [B, T] of each row, T = min(num_drawn, K): drawn one after the other, each time with the
    probabilities that the pairs' weights (see `objective.pair_weights`) leave the towers not drawn yet.

    The largest keys log w_k + Gumbel noise are such a draw (Efraimidis and Spirakis 2006). A tower without weight comes
    last.
    """
    weight_K = weights_KK.sum(dim=1)
    noise_BK = -torch.empty(num_rows, len(weight_K), device=weight_K.device).exponential_(generator=generator).log()
    return (weight_K.float().log() + noise_BK).topk(min(num_drawn, len(weight_K)), dim=1).indices


@torch.no_grad()
def drawn_logits(model: MultiScenarioModel, batch: Batch, towers_BT: Tensor) -> Tensor:
    """Logits [B, T] of each row's drawn towers: T visits per row, whatever K.

    In the model's present mode: reference towers are in eval mode.
    """
    visit_KB = torch.zeros(model.num_scenarios, len(batch), dtype=torch.bool, device=towers_BT.device)
    routing = Routing.of_mask(visit_KB.scatter_(0, towers_BT.t(), True))
    logits_V = model.routed_logits(model.embed(batch), batch, routing)
    logits_BK = logits_V.new_zeros(len(batch), model.num_scenarios)
    logits_BK[routing.row_index_V, routing.scenario_V] = logits_V
    return logits_BK.gather(1, towers_BT)
