"""Which scenarios have visits."""

from __future__ import annotations

import torch

from msr_models.modules.routing import Routing


def test_padding_is_no_visit_of_the_last_scenario() -> None:
    scenario_B, shared_B = torch.tensor([0, 1, 1]), torch.tensor([False, False, False])
    exact = Routing.own_and_shared(scenario_B, shared_B, 4)
    padded = Routing.own_and_shared(scenario_B, shared_B, 4, capacity=8)
    assert exact.present_K().tolist() == padded.present_K().tolist() == [True, True, False, False]
    shared = Routing.own_and_shared(scenario_B, torch.tensor([True, False, False]), 4, capacity=8)
    assert shared.present_K().tolist() == [True] * 4
