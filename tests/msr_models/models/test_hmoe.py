"""HMoE against its formula, and who learns from whom."""

from __future__ import annotations

import math

import pytest
import torch

from msr_models.models.hmoe import HMoE, mixed_score_logit
from msr_models.models.registry import build_model
from tests.support.batches import LAYOUT, random_batch


def build(num_scenarios: int = 3) -> HMoE:
    options = {"embedding_dim": 4, "hidden": [6, 5], "num_experts": 3, "expert_hidden": [8, 7]}
    model = build_model("hmoe", options, LAYOUT, num_scenarios, 1)
    assert isinstance(model, HMoE)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def score(model: HMoE, h: torch.Tensor, j: int) -> torch.Tensor:
    """s_j: sigmoid of tower j on MMoE's mixture by gate j."""
    gates = torch.softmax(torch.stack([model.mixtures.gate_KEX[j, :, e] @ h for e in range(3)]), 0)
    mixed = torch.zeros(())
    for e in range(3):
        expert = h
        for layer in model.mixtures.layers:
            expert = (expert @ layer.weight[e] + layer.bias[e]).relu()
        mixed = mixed + gates[e] * expert
    *layers, last = model.towers.layers
    for layer in layers:
        mixed = (mixed @ layer.weight[j] + layer.bias[j]).relu()
    return torch.sigmoid(mixed @ last.weight[j, :, 0] + last.bias[j, 0])


def transcribed(model: HMoE, h: torch.Tensor, i: int) -> torch.Tensor:
    """Probability y_i of one row, scores of other scenarios as constants."""
    mixing = torch.softmax(h @ model.score_gate_KEK[i], 0)
    scores = [score(model, h, j) for j in range(model.num_scenarios)]
    return torch.stack([mixing[j] * (s if j == i else s.detach()) for j, s in enumerate(scores)]).sum(0)


@pytest.mark.parametrize("num_scenarios", [1, 3])
def test_probabilities_and_gradients_are_those_of_the_formula(num_scenarios: int) -> None:
    model, batch = build(num_scenarios), random_batch(20, num_scenarios, share=0.3)
    visits = model.visit(batch)
    e_BE = model.embed(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = torch.stack([transcribed(model, e_BE[row], i) for row, i in pairs])
    torch.testing.assert_close(visits.logits_V.sigmoid(), want, atol=1e-5, rtol=1e-5)
    upstream = torch.randn(len(want), generator=torch.Generator().manual_seed(8))
    parameters = list(model.parameters())
    for mine, theirs in zip(
        torch.autograd.grad(visits.logits_V.sigmoid(), parameters, upstream),
        torch.autograd.grad(want, parameters, upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-3)


def test_a_row_trains_its_own_tower_and_gates_only() -> None:
    model = build()
    model(random_batch(30, 3, scenarios=[1])).sum().backward()
    for name in ("towers.layers.0.weight", "towers.layers.2.bias", "mixtures.gate_KEX", "score_gate_KEK"):
        grad = model.get_parameter(name).grad
        assert grad is not None
        assert grad[1].abs().max() > 0, name
        assert grad[[0, 2]].abs().max() == 0, name


def test_other_towers_scores_count_although_they_do_not_learn() -> None:
    model, batch = build(), random_batch(30, 3, scenarios=[1])
    before = model(batch)
    with torch.no_grad():
        model.towers.layers[-1].bias[2] += 3.0
    assert (model(batch) > before).all()


@pytest.mark.parametrize("size", [1.0, 30.0, 200.0])
def test_the_logit_is_exact_where_a_probability_would_round(size: float) -> None:
    logits = torch.tensor([[size, size], [-size, -size], [size, -size]])
    gate = torch.tensor([[0.0, 1.0], [3.0, -3.0], [0.0, 0.0]])
    got = mixed_score_logit(gate, logits)
    torch.testing.assert_close(got, torch.tensor([size, -size, 0.0]), atol=1e-5, rtol=1e-6)
    assert math.isfinite(float(got.sum()))
