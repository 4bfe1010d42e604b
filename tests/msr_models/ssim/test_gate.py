"""The gate: hard forward, both gradient estimators backward, a threshold that stays in bounds."""

from __future__ import annotations

import pytest
import torch

from msr_models.ssim.gate import Gate
from schemas.pipeline_spec import GateEstimator

PROBS = [0.1, 0.49, 0.5, 0.51, 0.9]


@pytest.mark.parametrize("estimator", ["straight_through", "relu"])
def test_forward_is_exactly_zero_or_one(estimator: GateEstimator) -> None:
    gate = Gate(estimator, 0.5, (0.05, 0.95))
    assert gate(torch.tensor(PROBS)).tolist() == [0, 0, 0, 1, 1]
    many = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(gate(many), (many > 0.5).float())


def test_straight_through_passes_a_gradient_on_both_sides() -> None:
    probs = torch.tensor(PROBS, requires_grad=True)
    gate = Gate("straight_through", 0.5, (0.05, 0.95))
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    (gate(probs) * weights).sum().backward()
    assert probs.grad is not None and probs.grad.tolist() == weights.tolist()
    assert gate.threshold.grad is not None and gate.threshold.grad.item() == -15


def test_relu_leaves_rows_below_the_threshold_without_gradient() -> None:
    probs = torch.tensor(PROBS, requires_grad=True)
    gate = Gate("relu", 0.5, (0.05, 0.95))
    gate(probs).sum().backward()
    assert probs.grad is not None and probs.grad.tolist() == [0, 0, 0, 1, 1]
    assert gate.threshold.grad is not None and gate.threshold.grad.item() == -2


def test_threshold_stays_inside_its_bounds_and_tells_when_it_ran_there() -> None:
    gate = Gate("straight_through", 0.5, (0.2, 0.8))
    assert not gate.at_bound()
    for value, expected in ((1.07, 0.8), (-3.0, 0.2)):
        with torch.no_grad():
            gate.threshold.fill_(value)
        gate.project()
        assert gate.threshold.item() == pytest.approx(expected)
        assert gate.at_bound()


def test_bounds_that_are_one_number_fix_the_threshold_and_narrow_ones_leave_it_room() -> None:
    fixed = Gate("straight_through", 0.4, (0.4, 0.4))  # no float32 number is 0.4
    with torch.no_grad():
        fixed.threshold.fill_(0.7)
    fixed.project()
    assert fixed.threshold.item() == pytest.approx(0.4) and not fixed.at_bound()
    narrow = Gate("straight_through", 0.5, (0.4995, 0.5005))
    assert not narrow.at_bound()
    with torch.no_grad():
        narrow.threshold.fill_(0.50045)
    assert narrow.at_bound()


def test_threshold_can_be_left_out_of_the_gradient() -> None:
    gate = Gate("straight_through", 0.5, (0.05, 0.95))
    probs = torch.tensor(PROBS, requires_grad=True)
    gate(probs, learn_threshold=False).sum().backward()
    assert gate.threshold.grad is None
    assert probs.grad is not None and probs.grad.tolist() == [1] * 5


def test_start_outside_the_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.99.*outside"):
        Gate("relu", 0.99, (0.05, 0.95))
