"""Which scenarios have visits, and visits once per label."""

from __future__ import annotations

import pytest
import torch

from msr_models.modules.routing import Routing


def test_padding_is_no_visit_of_the_last_scenario() -> None:
    scenario_B, shared_B = torch.tensor([0, 1, 1]), torch.tensor([False, False, False])
    exact = Routing.own_and_shared(scenario_B, shared_B, 4)
    padded = Routing.own_and_shared(scenario_B, shared_B, 4, capacity=8)
    assert exact.present_K().tolist() == padded.present_K().tolist() == [True, True, False, False]
    shared = Routing.own_and_shared(scenario_B, torch.tensor([True, False, False]), 4, capacity=8)
    assert shared.present_K().tolist() == [True] * 4


@pytest.mark.parametrize("capacity", [None, 6, 9])
@pytest.mark.parametrize("labels", [1, 2, 3])
def test_every_visit_has_a_tower_of_its_scenario_and_label(capacity: int | None, labels: int) -> None:
    scenario_B, shared_B = torch.tensor([2, 0, 2, 0]), torch.tensor([False, False, True, False])
    routing = Routing.own_and_shared(scenario_B, shared_B, 3, capacity)
    towers, place_TV = routing.of_labels(labels, 3)
    tower, row = towers.scenario_V.tolist(), towers.row_index_V.tolist()
    real = [True] * 6 + [False] * ((capacity or 6) - 6)
    assert place_TV.shape == (labels, len(real)) and sorted(place_TV.flatten().tolist()) == list(range(len(tower)))
    for t in range(labels):
        for v, is_real in enumerate(real):
            at = int(place_TV[t, v])
            assert row[at] == routing.row_index_V[v]
            assert not is_real or tower[at] == 3 * int(routing.scenario_V[v]) + t
    assert tower == sorted(tower) and towers.ends_K.tolist() == [sum(n <= k for n in tower) for k in range(9)]
    if capacity is not None:
        assert towers.real_V is not None
        assert towers.real_V.tolist() == sorted(towers.real_V.tolist(), reverse=True), "padding stays at the end"
        assert towers.real_V[place_TV].tolist() == [real] * labels
    assert towers.present_K().tolist() == [n % 3 < labels for n in range(9)]
