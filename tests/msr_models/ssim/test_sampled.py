"""Sampled towers: expectations taken exactly, over every draw there is, equal the exact loss and all its gradients."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product

import pytest
import torch
from torch import Tensor

from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model
from msr_models.ssim import sampled
from msr_models.ssim.objective import (
    gated_logits,
    pair_weights,
    shared_instance_loss,
    tower_losses,
)
from msr_models.ssim.sampled import (
    draw_tower_sets,
    draw_towers,
    drawn_logits,
    sampled_loss,
    towers_of_choices,
)
from tests.support.batches import LAYOUT, random_batch

SOURCES = ["shared_bottom", "star", "hmoe", "mmoe"]


def _model(name: str, num_scenarios: int) -> MultiScenarioModel:
    """In eval mode: batch moments are those of the visits drawn, and so differ from draw to draw."""
    return build_model(name, {"hidden": [8, 4]}, LAYOUT, num_scenarios, 1).eval()


def _every_draw(scenario_B: Tensor, num_scenarios: int, drawn: int) -> list[Tensor]:
    """towers_BM of every set of `drawn` others; the same place in the list is another set for each scenario."""
    return [
        (scenario_B[:, None] + torch.tensor(offsets)) % num_scenarios
        for offsets in combinations(range(1, num_scenarios), drawn)
    ]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(("num_scenarios", "drawn"), [(2, 1), (5, 1), (5, 2), (5, 4)])
def test_value_and_all_gradients_are_unbiased(name: str, num_scenarios: int, drawn: int, reduction: str) -> None:
    """A row's term depends on its own draw alone, so the mean over a list in which each row sees each set once is the
    expectation over independent draws.
    """
    model, batch = _model(name, num_scenarios), random_batch(40, num_scenarios, share=0.5)
    parameters = list(model.parameters())
    gate_B = batch.shared_B.float().requires_grad_()
    losses_BK = tower_losses(gated_logits(model, batch, gate_B)[0], batch.label_B)
    exact = shared_instance_loss(gate_B, losses_BK, batch.scenario_B, reduction)  # type: ignore[arg-type]  # parameters are str
    expected = [exact, *torch.autograd.grad(exact, [gate_B, *parameters])]
    draws = _every_draw(batch.scenario_B, num_scenarios, drawn)
    found = []
    for towers_BM in draws:
        loss, penalty = sampled_loss(model, batch, gate_B, towers_BM, reduction)  # type: ignore[arg-type]  # likewise
        assert penalty is None
        found.append([loss, *torch.autograd.grad(loss, [gate_B, *parameters])])
    for parts, whole in zip(zip(*found, strict=True), expected, strict=True):
        torch.testing.assert_close(torch.stack(parts).mean(0), whole, atol=2e-6, rtol=1e-4)


def test_a_single_draw_gives_the_gate_estimated_tower_loss_minus_own_loss() -> None:
    model, batch = _model("shared_bottom", 6), random_batch(30, 6, share=0.5)
    towers_BM = draw_towers(batch.scenario_B, 6, 2, torch.Generator().manual_seed(3))
    gate_B = batch.shared_B.float().requires_grad_()
    sampled_loss(model, batch, gate_B, towers_BM)[0].backward()
    losses_BK = tower_losses(model.scenario_logits(model.embed(batch), batch), batch.label_B).detach()
    closed = []
    for i, own in enumerate(batch.scenario_B.tolist()):
        others = sum(losses_BK[i, k] for k in towers_BM[i].tolist())
        closed.append((losses_BK[i, own] + 5 / 2 * others) / 6 - losses_BK[i, own])
    assert gate_B.grad is not None
    torch.testing.assert_close(gate_B.grad * 30, torch.stack(closed), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("num_scenarios", "drawn"), [(1, 1), (2, 1), (12, 3)])
def test_one_pass_over_all_visits_gives_what_two_give(
    num_scenarios: int, drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form for a GPU, run here: a fixed number of visits, and g = 0 multiplied out instead of left out."""
    model, batch = _model("shared_bottom", num_scenarios), random_batch(50, num_scenarios, share=0.4)
    towers_BM = draw_towers(batch.scenario_B, num_scenarios, drawn, torch.Generator().manual_seed(3))
    results = []
    for one_pass in (False, True):
        monkeypatch.setattr(sampled, "_in_one_pass", lambda *_, one_pass=one_pass: one_pass)
        gate_B = batch.shared_B.float().requires_grad_()
        loss, _ = sampled_loss(model, batch, gate_B, towers_BM)
        results.append([loss, *torch.autograd.grad(loss, [gate_B, *model.parameters()])])
    for two, one in zip(*results, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-4)


def test_one_scenario_has_no_others() -> None:
    model, batch = _model("shared_bottom", 1), random_batch(10, 1, share=0.5)
    towers_BM = draw_towers(batch.scenario_B, 1, 3, torch.Generator())
    assert towers_BM.shape == (10, 0)
    loss, _ = sampled_loss(model, batch, batch.shared_B.float(), towers_BM)
    torch.testing.assert_close(loss, tower_losses(model(batch)[:, None], batch.label_B).mean())


@pytest.mark.parametrize(("num_scenarios", "drawn"), [(2, 1), (6, 1), (6, 2), (6, 3), (5, 4)])
def test_every_set_of_others_belongs_to_equally_many_choices(num_scenarios: int, drawn: int) -> None:
    tops = [num_scenarios - 1 - drawn + step + 1 for step in range(drawn)]
    for scenario in range(num_scenarios):
        every = torch.tensor(list(product(*(range(top) for top in tops))))
        scenario_B = torch.full((len(every),), scenario)
        towers_BM = towers_of_choices(list(every.unbind(1)), scenario_B, num_scenarios)
        counts = Counter(frozenset(row) for row in towers_BM.tolist())
        others = set(range(num_scenarios)) - {scenario}
        assert set(counts) == {frozenset(c) for c in combinations(others, drawn)}
        assert len(set(counts.values())) == 1


def test_draws_come_from_the_generator_alone_and_use_every_choice() -> None:
    scenario_B = torch.arange(4_000) % 7
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed + torch.randint(100, ()).item())
        draws.append(draw_towers(scenario_B, 7, 3, torch.Generator().manual_seed(seed)))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert not (draws[0] == scenario_B[:, None]).any(), "a row's own tower is not drawn"
    assert len({tuple(sorted(row)) for row in draws[0][scenario_B == 0].tolist()}) == 20
    assert draw_towers(scenario_B, 7, 50, torch.Generator()).shape == (4_000, 6), "no more than there are"


class _Counting:
    """Visits that a model is asked for, with and without gradients."""

    def __init__(self, model: MultiScenarioModel) -> None:
        self.trained, self.rest, self.original = 0, 0, model.network_logits
        model.network_logits = self  # type: ignore[method-assign]  # watched for one test

    def __call__(self, e_BE: Tensor, batch: object, routing: object) -> Tensor:
        visits = len(routing.row_index_V)  # type: ignore[attr-defined]  # a Routing
        if torch.is_grad_enabled():
            self.trained += visits
        else:
            self.rest += visits
        return self.original(e_BE, batch, routing)  # type: ignore[arg-type]  # likewise


@pytest.mark.parametrize("num_scenarios", [3, 12, 50])
def test_visits_do_not_grow_with_the_number_of_scenarios(num_scenarios: int) -> None:
    model, batch = _model("shared_bottom", num_scenarios), random_batch(200, num_scenarios, share=0.3)
    count, shared = _Counting(model), int(batch.shared_B.sum())
    towers_BM = draw_towers(batch.scenario_B, num_scenarios, 2, torch.Generator())
    sampled_loss(model, batch, batch.shared_B.float().requires_grad_(), towers_BM)
    assert (count.trained, count.rest) == (200 + 2 * shared, 2 * (200 - shared))
    count.rest = 0
    sets_BT = draw_tower_sets(pair_weights(torch.ones(num_scenarios)), 200, 3, torch.Generator())
    drawn_logits(model, batch, sets_BT)
    assert count.rest == 3 * 200


def test_sets_of_towers_are_drawn_without_repeats_by_their_weights() -> None:
    weights_KK = pair_weights(torch.tensor([600, 300, 100, 0]))
    towers_BT = draw_tower_sets(weights_KK, 40_000, 2, torch.Generator().manual_seed(0))
    assert (towers_BT[:, 0] != towers_BT[:, 1]).all() and not (towers_BT == 3).any(), "tower 3 has no rows"
    weight_K = weights_KK.sum(dim=1)[:3]
    for first in range(3):
        rows = towers_BT[:, 0] == first
        assert float(rows.double().mean()) == pytest.approx(float(weight_K[first]), abs=0.01)
        left_K = weight_K.clone()
        left_K[first] = 0
        found_K = torch.bincount(towers_BT[rows, 1], minlength=3).double() / rows.sum()
        torch.testing.assert_close(found_K, left_K / left_K.sum(), atol=0.015, rtol=0)
    again = draw_tower_sets(weights_KK, 40_000, 2, torch.Generator().manual_seed(0))
    assert torch.equal(towers_BT, again) and draw_tower_sets(weights_KK, 5, 9, torch.Generator()).shape == (5, 4)


def test_logits_of_drawn_towers_are_the_models_own() -> None:
    model, batch = _model("shared_bottom", 5), random_batch(50, 5)
    towers_BT = draw_tower_sets(pair_weights(torch.tensor([5, 4, 3, 2, 1])), 50, 3, torch.Generator().manual_seed(2))
    logits_BK = model.scenario_logits(model.embed(batch), batch).detach()
    torch.testing.assert_close(
        drawn_logits(model, batch, towers_BT), logits_BK.gather(1, towers_BT), atol=1e-6, rtol=1e-5
    )
