"""Lazy steps per scenario against a slow loop over scenarios, and the two ways to take them against each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from msr_models.models.registry import build_model
from msr_models.modules.partitioned_norm import PartitionedNorm
from msr_models.training.slices import ADAGRAD_EPS, ADAM_EPS, SliceOptimiser, Slices, slices_of
from schemas.pipeline_spec import OptimiserKind
from tests.support.batches import LAYOUT

RATE, DECAY, K = 0.02, 0.3, 3


def gradients() -> list[Tensor]:
    """Of a [K, 2, 2] parameter: scenario 1 has data in the second and fourth step only, scenario 2 never."""
    generator = torch.Generator().manual_seed(4)
    found = []
    for step in range(5):
        grad = torch.randn(K, 2, 2, generator=generator)
        grad[2] = 0
        if step not in (1, 3):
            grad[1] = 0
        found.append(grad)
    return found


def run(kind: OptimiserKind, rate: Tensor | float, neutral: float = 0.0) -> Slices:
    parameter = nn.Parameter(torch.randn(K, 2, 2, generator=torch.Generator().manual_seed(1)))
    slices = Slices(parameter, count=K, is_lazy=True, neutral=neutral)
    optimiser = SliceOptimiser([slices], kind, DECAY)
    for grad in gradients():
        parameter.grad = grad
        optimiser.step(rate)
    return slices


@pytest.mark.parametrize("kind", ["adam", "adagrad"])
@pytest.mark.parametrize("neutral", [0.0, 1.0])
@pytest.mark.parametrize("captured", [False, True])
def test_a_scenario_is_trained_as_if_by_its_own_optimiser(kind: OptimiserKind, neutral: float, captured: bool) -> None:
    """captured: by masks, as on a GPU, which needs no answer from the device."""
    got = run(kind, torch.tensor(RATE) if captured else RATE, neutral)
    start = torch.randn(K, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    for k, element in ((k, e) for k in range(K) for e in range(4)):
        w, first, second, steps = float(start[k].flatten()[element]), 0.0, 0.0, 0
        for grad in gradients():
            g = float(grad[k].flatten()[element])
            if not grad[k].any():
                continue
            steps += 1
            w -= RATE * DECAY * (w - neutral)
            if kind == "adam":
                first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
                w -= RATE * (first / (1 - 0.9**steps)) / (math.sqrt(second / (1 - 0.999**steps)) + ADAM_EPS)
            else:
                second += g * g
                w -= RATE * g / (math.sqrt(second) + ADAGRAD_EPS)
        assert float(got.parameter.detach()[k].flatten()[element]) == pytest.approx(w, abs=2e-6), (k, element)
    if kind == "adam":
        assert got.steps_S.tolist() == [5, 2, 0]
    assert torch.equal(got.parameter[2].double(), start[2])


def test_a_slice_whose_first_gradients_are_zero_may_have_data() -> None:
    slices = Slices(nn.Parameter(torch.ones(2, 100)), count=2, is_lazy=True)
    slices.parameter.grad = torch.zeros(2, 100)
    slices.parameter.grad[1, 99] = 1.0
    SliceOptimiser([slices], "adam", 0.0).step(RATE)
    assert slices.steps_S.tolist() == [0, 1] and float(slices.parameter.detach()[1, 99]) < 1.0
    assert slices.mask().flatten().tolist() == [0, 1]


def test_a_parameter_without_a_gradient_waits_for_one() -> None:
    slices = Slices(nn.Parameter(torch.ones(3)))
    SliceOptimiser([slices], "adam", DECAY).step(RATE)
    assert torch.equal(slices.parameter, torch.ones(3)) and slices.steps_S.tolist() == [0]


def test_common_parameters_are_stepped_also_by_zeros() -> None:
    slices = Slices(nn.Parameter(torch.ones(3)))
    slices.parameter.grad = torch.zeros(3)
    SliceOptimiser([slices], "adam", DECAY).step(RATE)
    torch.testing.assert_close(slices.parameter.detach(), torch.full((3,), 1 - RATE * DECAY))


def test_scenarios_copies_and_neutral_values_are_found_in_models() -> None:
    star = build_model("star", {}, LAYOUT, 6, 1)
    names = {id(parameter): name for name, parameter in star.named_parameters()}
    found = {names[id(one.parameter)]: one for one in slices_of(star, list(star.parameters()))}
    own, common = found["towers.layers.0.own_weight_KIO"], found["towers.layers.0.weight_IO"]
    assert (own.count, own.is_lazy, own.neutral) == (6, True, 1.0)
    assert (common.count, common.is_lazy, common.neutral) == (1, False, 0.0)
    assert found["norm.own_scale_KE"].neutral == found["norm.scale_E"].neutral == 1.0
    copies = build_model("single_task", {}, LAYOUT, 6, 1)
    lazy = [one.is_lazy and one.count == 1 for one in slices_of(copies, list(copies.parameters()))]
    assert all(lazy)
    assert set(PartitionedNorm.neutral_values) <= {name for name, _ in PartitionedNorm(2, 3, 0.1).named_parameters()}
