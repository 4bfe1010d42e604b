"""AESM² against its formulas; its noise, its penalty and what a visit does not select."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msr_models.models.aesm2 import AESM2
from msr_models.models.registry import build_model
from msr_models.modules.expert_selection import SelectedExperts
from schemas.errors import TrainingError
from tests.support.batches import LAYOUT, random_batch

EXPERTS = 5


def build(num_scenarios: int = 3, **options: object) -> AESM2:
    small = {"embedding_dim": 4, "hidden": [6], "num_experts": EXPERTS, "top_k": 2, "expert_widths": [7, 6]}
    model = build_model("aesm2", small | options, LAYOUT, num_scenarios, 1)
    assert isinstance(model, AESM2)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def nearest(values: list[float], k: int) -> list[int]:
    return sorted(range(len(values)), key=lambda j: values[j])[:k]


def transcribed_layer(
    model: AESM2, layer: SelectedExperts, x: Tensor, s: int, noise: Tensor | None
) -> tuple[Tensor, float]:
    """(z, divergence) of one row at scenario s."""
    scenarios, top_k = model.num_scenarios, model.config.top_k
    weight = torch.cat([layer.gate.first_weight_IO, layer.gate.second_weight_JO])
    g = torch.cat([x, model.scenario_KD[s]]) @ weight + layer.gate.bias_O
    if noise is not None:
        g = g + noise
    logits = g.detach().view(scenarios, EXPERTS).tolist()
    to_one, to_all = [], []
    for j in range(EXPERTS):
        total = sum(math.exp(logits[k][j]) for k in range(scenarios))
        share = [math.exp(logits[k][j]) / total for k in range(scenarios)]
        to_one.append(kl([float(k == s) for k in range(scenarios)], share))
        to_all.append(kl([1 / scenarios] * scenarios, share))
    specific, shared = nearest(to_one, top_k), nearest(to_all, top_k)
    selected = sorted({*specific, *shared})
    total = sum(math.exp(logits[s][j]) for j in selected)
    z = torch.zeros(layer.experts.weight.shape[2])
    for j in selected:
        expert = (x @ layer.experts.weight[j] + layer.experts.bias[j]).relu()
        z = z + math.exp(logits[s][j]) / total * expert
    return z, sum(to_one[j] for j in specific) / top_k + sum(to_all[j] for j in shared) / top_k


def transcribed(model: AESM2, e: Tensor, s: int, noises: list[Tensor] | None) -> tuple[float, float]:
    """(logit, sum of the layers' divergences) of one row."""
    z, divergence = e, 0.0
    for number, layer in enumerate(model.layers):
        z, added = transcribed_layer(model, layer, z, s, None if noises is None else noises[number])
        divergence += added
    *hidden, last = model.tower.layers
    for dense in hidden:
        z = (z @ dense.weight[0] + dense.bias[0]).relu()
    return (z @ last.weight[0, :, 0] + last.bias[0, 0]).item(), divergence


@pytest.mark.parametrize("num_scenarios", [2, 3])
@pytest.mark.parametrize("widths", [[7], [7, 6]])
def test_logits_are_those_of_the_selected_experts(num_scenarios: int, widths: list[int]) -> None:
    model = build(num_scenarios, expert_widths=widths).eval()
    batch = random_batch(20, num_scenarios, share=0.3)
    visits, e_BE = model.visit(batch), model.embed(batch)
    assert visits.penalty is None
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = [transcribed(model, e_BE[row], s, None)[0] for row, s in pairs]
    torch.testing.assert_close(visits.logits_V, torch.tensor(want), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("extra", [None, 0, 30])
def test_training_adds_noise_per_row_and_the_selected_divergences(extra: int | None) -> None:
    model, batch = build(noise=2.0, auxiliary_weight=0.3), random_batch(20, 3, share=0.3)
    real = 20 + 2 * int(batch.shared_B.sum())
    torch.manual_seed(5)
    visits = model.visit(batch, None if extra is None else real + extra)
    torch.manual_seed(5)
    noises = [torch.randn(20, 3 * EXPERTS) * 2.0 / EXPERTS for _ in model.layers]
    e_BE = model.embed(batch)
    rows, scenarios = visits.row_index_V[:real].tolist(), visits.scenario_V[:real].tolist()
    want = [
        transcribed(model, e_BE[row], s, [noise[row] for noise in noises])
        for row, s in zip(rows, scenarios, strict=True)
    ]
    torch.testing.assert_close(visits.logits_V[:real], torch.tensor([logit for logit, _ in want]), atol=1e-5, rtol=1e-5)
    assert visits.penalty is not None
    assert visits.penalty.item() == pytest.approx(0.3 * sum(divergence for _, divergence in want) / real, rel=1e-4)


def test_noise_is_drawn_in_training_only() -> None:
    model, batch = build(), random_batch(20, 3)
    torch.manual_seed(1)
    first, second = model(batch), model(batch)
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    model.eval()
    assert torch.equal(model(batch), model(batch)) and torch.equal(torch.get_rng_state(), state)
    quiet = build(noise=0.0)
    assert torch.equal(quiet(batch), quiet.eval()(batch))


def test_the_penalty_teaches_the_gate() -> None:
    model, batch = build(), random_batch(40, 3)
    penalty = model.visit(batch).penalty
    assert penalty is not None
    gradients = torch.autograd.grad(penalty, [model.scenario_KD, model.layers[0].gate.first_weight_IO])
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_more_experts_asked_for_than_there_are_is_an_error() -> None:
    with pytest.raises(TrainingError, match=r"top_k 9 is more than num_experts 8.*lower top_k"):
        build_model("aesm2", {"top_k": 9}, LAYOUT, 3, 1)
