"""Moments per scenario: whose rows make them, when they are remembered, and when only remembered ones serve."""

from __future__ import annotations

import copy

import pytest
import torch

from msr_models.modules.partitioned_norm import PartitionedNorm
from msr_models.modules.routing import Routing

WIDTH = 6


def made_up(num_scenarios: int, momentum: float = 0.1) -> PartitionedNorm:
    norm = PartitionedNorm(num_scenarios, WIDTH, momentum)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        norm.running_mean_KE.normal_(generator=generator)
        norm.running_var_KE.uniform_(0.5, 2.0, generator=generator)
    return norm


def rows(count: int, seed: int = 2) -> torch.Tensor:
    return 3.0 + 2.0 * torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def by_hand(norm: PartitionedNorm, x: torch.Tensor, mean: torch.Tensor, var: torch.Tensor, k: int) -> torch.Tensor:
    scale, shift = norm.scale_E * norm.own_scale_KE[k], norm.shift_E + norm.own_shift_KE[k]
    return scale * (x - mean) / torch.sqrt(var + norm.eps) + shift


def state(norm: PartitionedNorm) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in norm.named_buffers()}


def unchanged(norm: PartitionedNorm, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(buffer, before[name]) for name, buffer in norm.named_buffers())


@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
@pytest.mark.parametrize("extra_places", [None, 0, 25])
def test_training_uses_the_moments_of_the_scenarios_visits_in_the_batch(
    num_scenarios: int, extra_places: int | None
) -> None:
    generator = torch.Generator().manual_seed(3)
    scenario = torch.arange(60) % num_scenarios
    shared = torch.rand(60, generator=generator) < 0.3
    visits = 60 + int(shared.sum()) * (num_scenarios - 1)
    capacity = None if extra_places is None else visits + extra_places
    routing = Routing.own_and_shared(scenario, shared, num_scenarios, capacity)
    norm, x = made_up(num_scenarios), rows(60).requires_grad_()
    got = norm(x[routing.row_index_V], routing)[:visits]
    want = []
    for k in range(num_scenarios):
        mine = torch.stack([x[i] for i in range(60) if scenario[i] == k or shared[i]])
        mean = mine.sum(0) / len(mine)
        var = ((mine - mean) ** 2).sum(0) / len(mine)
        want += [by_hand(norm, row, mean, var, k) for row in mine]
    torch.testing.assert_close(got, torch.stack(want), atol=1e-4, rtol=1e-4)
    upstream = torch.randn(got.shape, generator=generator)
    parameters = [x, *norm.parameters()]
    for mine, theirs in zip(
        torch.autograd.grad(got, parameters, upstream),
        torch.autograd.grad(torch.stack(want), parameters, upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)


def test_eval_uses_remembered_moments_and_leaves_them() -> None:
    norm, x, scenario = made_up(3).eval(), rows(30), torch.arange(30) % 3
    before = state(norm)
    routing = Routing.own(scenario, 3)
    got = routing.to_rows(norm(x[routing.row_index_V], routing))
    for i, k in enumerate(scenario.tolist()):
        want = by_hand(norm, x[i], norm.running_mean_KE[k], norm.running_var_KE[k], k)
        torch.testing.assert_close(got[i], want, atol=1e-4, rtol=1e-4)
        alone = norm(x[i : i + 1], Routing.own(scenario[i : i + 1], 3))[0]
        torch.testing.assert_close(alone, got[i], atol=1e-5, rtol=1e-5)
    assert unchanged(norm, before)


def test_visits_without_gradients_use_remembered_moments_and_leave_them() -> None:
    norm, x, routing = made_up(3), rows(30), Routing.own(torch.arange(30) % 3, 3)
    before = state(norm)
    with torch.no_grad():
        got = norm(x, routing)
    assert unchanged(norm, before)
    torch.testing.assert_close(got, copy.deepcopy(norm).eval()(x, routing))


def test_remembered_moments_are_means_at_first_and_then_move_by_the_momentum() -> None:
    norm = PartitionedNorm(2, WIDTH, momentum=0.25)
    means, variances = [], []
    for step in range(7):
        x = rows(20, seed=step)
        norm(x, Routing.own(torch.zeros(20, dtype=torch.int64), 2))
        means.append(x.mean(0))
        variances.append(x.var(0, correction=1))
        if step == 3:
            torch.testing.assert_close(norm.running_mean_KE[0], torch.stack(means).mean(0))
            torch.testing.assert_close(norm.running_var_KE[0], torch.stack(variances).mean(0))
    mean, var = torch.stack(means[:4]).mean(0), torch.stack(variances[:4]).mean(0)
    for new_mean, new_var in zip(means[4:], variances[4:], strict=True):
        mean, var = 0.75 * mean + 0.25 * new_mean, 0.75 * var + 0.25 * new_var
    torch.testing.assert_close(norm.running_mean_KE[0], mean)
    torch.testing.assert_close(norm.running_var_KE[0], var)
    assert norm.num_updates_K.tolist() == [7, 0]


@pytest.mark.parametrize("visits", [0, 1])
def test_a_scenario_of_less_than_two_visits_uses_and_keeps_what_it_remembers(visits: int) -> None:
    norm, x = made_up(3), rows(20 + visits)
    scenario = torch.cat([torch.ones(visits, dtype=torch.int64), torch.arange(20) % 2 * 2])
    before, routing = state(norm), Routing.own(scenario, 3)
    got = routing.to_rows(norm(x[routing.row_index_V], routing))
    for name, buffer in norm.named_buffers():
        assert torch.equal(buffer[1], before[name][1]), name
        assert not torch.equal(buffer[0], before[name][0]) and not torch.equal(buffer[2], before[name][2]), name
    for i in range(visits):
        want = by_hand(norm, x[i], before["running_mean_KE"][1], before["running_var_KE"][1], 1)
        torch.testing.assert_close(got[i], want, atol=1e-4, rtol=1e-4)
    assert got.isfinite().all()


def test_places_that_only_fill_up_reach_no_statistics() -> None:
    scenario, shared = torch.tensor([0, 1, 0, 1, 1]), torch.zeros(5, dtype=torch.bool)
    exact, filled = made_up(2), made_up(2)
    for norm, capacity in ((exact, None), (filled, 400)):
        routing = Routing.own_and_shared(scenario, shared, 2, capacity)
        norm(rows(5)[routing.row_index_V], routing)
    for name, buffer in filled.named_buffers():
        torch.testing.assert_close(buffer, exact.get_buffer(name))


def test_a_far_off_mean_cancels_nothing() -> None:
    norm, routing = PartitionedNorm(1, WIDTH, 0.1), Routing.own(torch.zeros(50, dtype=torch.int64), 1)
    x = rows(50)
    torch.testing.assert_close(norm(x + 4096.0, routing), norm(x, routing), atol=5e-3, rtol=0)
