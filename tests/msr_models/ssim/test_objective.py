"""Eq. 13 with the gate's gradient in both terms, and the label-free excess against its definition."""

from __future__ import annotations

import copy
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F

from msr_models.models.registry import build_model
from msr_models.modules.routing import own_mask
from msr_models.ssim.objective import (
    expected_excess,
    gated_logits,
    of_own_tower,
    pair_weights,
    shared_instance_loss,
    tower_losses,
)
from schemas.pipeline_spec import TowerReduction
from tests.support.batches import LAYOUT, random_batch


def _rows(num_scenarios: int, rows: int = 64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(logits_BK, label_B, scenario_B)."""
    generator = torch.Generator().manual_seed(num_scenarios)
    return (
        2 * torch.randn(rows, num_scenarios, generator=generator, dtype=torch.float64),
        torch.randint(2, (rows,), generator=generator).double(),
        torch.randint(num_scenarios, (rows,), generator=generator),
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
def test_gradient_of_the_gate_is_reduced_tower_loss_minus_own_loss(
    num_scenarios: int, reduction: TowerReduction
) -> None:
    logits_BK, label_B, scenario_B = _rows(num_scenarios)
    losses_BK = tower_losses(logits_BK, label_B)
    gate_B = torch.randint(2, (64,), generator=torch.Generator().manual_seed(9)).double().requires_grad_()
    shared_instance_loss(gate_B, losses_BK, scenario_B, reduction).backward()
    own_B = torch.stack([losses_BK[i, s] for i, s in enumerate(scenario_B.tolist())])
    closed_B = (losses_BK.mean(1) if reduction == "mean" else losses_BK.sum(1)) - own_B
    assert gate_B.grad is not None and torch.allclose(gate_B.grad * 64, closed_B, atol=1e-12)


def test_limits_none_shared_is_the_own_loss_and_all_shared_the_mean_of_towers() -> None:
    logits_BK, label_B, scenario_B = _rows(3)
    losses_BK = tower_losses(logits_BK, label_B)
    none, every = torch.zeros(64).double(), torch.ones(64).double()
    own = F.binary_cross_entropy_with_logits(logits_BK[torch.arange(64), scenario_B], label_B)
    assert shared_instance_loss(none, losses_BK, scenario_B).item() == pytest.approx(own.item())
    assert shared_instance_loss(every, losses_BK, scenario_B).item() == pytest.approx(losses_BK.mean().item())
    assert torch.equal(of_own_tower(losses_BK, scenario_B), losses_BK[torch.arange(64), scenario_B])


def test_equal_towers_leave_the_gate_without_gradient() -> None:
    """Why the joint objective collapses: `share all` is a fixed point."""
    _, label_B, scenario_B = _rows(3)
    logits_BK = torch.randn(64, 1, dtype=torch.float64).expand(64, 3)
    gate_B = torch.ones(64, dtype=torch.float64, requires_grad=True)
    shared_instance_loss(gate_B, tower_losses(logits_BK, label_B), scenario_B).backward()
    assert gate_B.grad is not None and gate_B.grad.abs().max().item() < 1e-15


@pytest.mark.parametrize("num_scenarios", [2, 3, 12])
def test_expected_excess_is_the_weighted_mean_of_both_divergences_over_pairs(num_scenarios: int) -> None:
    logits_BK, _, _ = _rows(num_scenarios)
    rows_K = torch.arange(1, num_scenarios + 1) * 100
    probs = torch.distributions.Bernoulli(logits=logits_BK)
    expected_B, total = torch.zeros(64, dtype=torch.float64), 0.0
    for j, k in combinations(range(num_scenarios), 2):
        p, q = (torch.distributions.Bernoulli(logits=probs.logits[:, i]) for i in (j, k))
        weight = float(rows_K[j] * rows_K[k] / (rows_K[j] + rows_K[k]))
        divergence_B = torch.distributions.kl_divergence(p, q) + torch.distributions.kl_divergence(q, p)
        expected_B, total = expected_B + weight * divergence_B / 2, total + weight
    assert torch.allclose(expected_excess(logits_BK, pair_weights(rows_K)), expected_B / total, atol=1e-10)


def test_excess_is_zero_for_one_tower_for_equal_towers_and_ignores_a_tower_without_rows() -> None:
    logits_BK, _, _ = _rows(3)
    assert expected_excess(logits_BK[:, :1], pair_weights(torch.tensor([7]))).abs().max() == 0
    assert expected_excess(logits_BK[:, :1].expand(64, 3), pair_weights(torch.tensor([7, 8, 9]))).max() < 1e-12
    with_empty = expected_excess(logits_BK, pair_weights(torch.tensor([7, 8, 0])))
    without = expected_excess(logits_BK[:, :2], pair_weights(torch.tensor([7, 8])))
    assert torch.allclose(with_empty, without, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
def test_gated_logits_have_the_values_and_gradients_of_all_towers(share: float, num_scenarios: int) -> None:
    """Leaving out what eq. 13 multiplies by zero changes neither the loss nor any gradient, the gate's included."""
    batch = random_batch(60, num_scenarios, share=share)
    model = build_model("shared_bottom", {"hidden": [16, 8]}, LAYOUT, num_scenarios, 1)
    results = []
    for logits_of in (lambda m, b, g: gated_logits(m, b, g)[0], lambda m, b, _: m.scenario_logits(m.embed(b), b)):
        gate_B = batch.shared_B.float().requires_grad_()
        losses_BK = tower_losses(logits_of(model, batch, gate_B), batch.label_B)
        loss = shared_instance_loss(gate_B, losses_BK, batch.scenario_B)
        results.append([loss, *torch.autograd.grad(loss, [gate_B, *model.parameters()])])
    for mine, every in zip(*results, strict=True):
        torch.testing.assert_close(mine, every, atol=1e-6, rtol=1e-4)


def test_visits_that_only_serve_the_gate_are_normalised_with_running_moments() -> None:
    """STAR in training: neither they nor their number change what the visits that train are normalised with."""
    batch = random_batch(60, 3, share=0.3)
    model = build_model("star", {"hidden": [16, 8]}, LAYOUT, 3, 1)
    for _ in range(5):  # running moments that differ from a batch's
        model.visit(random_batch(60, 3, seed=7))
    gate_B = batch.shared_B.float()
    before = copy.deepcopy(model)
    logits_BK = gated_logits(model, batch, gate_B)[0].detach()
    trains_BK = (own_mask(batch.scenario_B, 3) | batch.shared_B).t()
    with torch.no_grad():
        running_BK = before.eval().scenario_logits(before.embed(batch), batch)
    torch.testing.assert_close(logits_BK[~trains_BK], running_BK[~trains_BK], atol=1e-5, rtol=1e-4)
    assert float((logits_BK - running_BK)[trains_BK].abs().mean()) > 1e-3
