"""The two forms of KL(1 || G)."""

from __future__ import annotations

import math

import pytest
import torch

from msr_models.ssim.divergence import divergence_from_all_shared
from msr_models.ssim.gate import Gate


def test_bernoulli_is_the_mean_of_minus_log_p() -> None:
    probs = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    found = divergence_from_all_shared("bernoulli", torch.zeros(3), torch.logit(probs))
    assert found.item() == pytest.approx(-sum(math.log(p) for p in (0.2, 0.5, 0.9)) / 3)


def test_bernoulli_is_finite_for_a_row_that_is_never_shared_and_zero_when_all_are() -> None:
    assert divergence_from_all_shared("bernoulli", torch.zeros(1), torch.tensor([-200.0])).item() == pytest.approx(200)
    assert divergence_from_all_shared("bernoulli", torch.ones(1), torch.tensor([200.0])).item() == pytest.approx(0)


def test_linear_is_one_minus_the_share_rate_with_the_gates_gradient() -> None:
    logits = torch.tensor([-1.0, 0.0, 2.0, 3.0], requires_grad=True)
    gate = Gate("straight_through", 0.6, (0.05, 0.95))
    found = divergence_from_all_shared("linear", gate(logits.sigmoid()), logits)
    assert found.item() == pytest.approx(0.5)
    found.backward()
    p = logits.detach().sigmoid()
    assert logits.grad is not None and torch.allclose(logits.grad, -p * (1 - p) / 4)
    assert gate.threshold.grad is not None and gate.threshold.grad.item() == pytest.approx(1.0)
