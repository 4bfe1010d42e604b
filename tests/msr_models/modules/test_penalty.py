"""Means over the visits that count."""

from __future__ import annotations

import dataclasses

import torch

from msr_models.modules.penalty import mean_of_real
from msr_models.modules.routing import Routing


def test_filled_up_places_do_not_count() -> None:
    routing = Routing.everywhere(2, 2, torch.device("cpu"))
    values = torch.tensor([1.0, 2.0, 6.0, float("nan")])
    assert float(mean_of_real(values[:3], routing)) == 3
    padded = dataclasses.replace(routing, real_V=torch.tensor([True, True, True, False]))
    assert float(mean_of_real(values, padded)) == 3


def test_no_visits_mean_0() -> None:
    none = Routing.everywhere(0, 2, torch.device("cpu"))
    assert float(mean_of_real(torch.zeros(0), none)) == 0
    assert float(mean_of_real(torch.ones(2), dataclasses.replace(none, real_V=torch.zeros(2, dtype=torch.bool)))) == 0
