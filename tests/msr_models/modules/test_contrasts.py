"""Contrasts beside visits in one routing, and the sum of cosines over pairs of scenarios."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from msr_models.modules.contrasts import Contrasts, pairwise_cosines
from msr_models.modules.routing import Routing


@pytest.mark.parametrize("every", [1, 2, 3, 50])
@pytest.mark.parametrize("capacity", [None, 14])
def test_visits_and_contrasts_are_found_where_they_were_put(every: int, capacity: int | None) -> None:
    mask_KB = torch.rand(3, 7, generator=torch.Generator().manual_seed(5)) < 0.5
    routing = Routing.of_mask(mask_KB, capacity)
    contrasts = Contrasts.of(routing, every)
    both = contrasts.both
    assert both.scenario_V.tolist() == sorted(both.scenario_V.tolist())
    counts = torch.bincount(both.scenario_V, minlength=3)
    assert both.ends_K.tolist() == counts.cumsum(0).tolist() and both.ends_K.dtype == torch.int32
    r = torch.stack([both.scenario_V, both.row_index_V], dim=1)  # a representation that says whose it is
    r_VH, r_KRH = contrasts.parted(r)
    assert torch.equal(r_VH, torch.stack([routing.scenario_V, routing.row_index_V], dim=1))
    rows = list(range(0, 7, every))
    assert r_KRH.tolist() == [[[k, row] for row in rows] for k in range(3)]
    assert len(r) == (21 if every == 1 else len(r_VH) + 3 * len(rows))


@pytest.mark.parametrize("scenarios", [1, 2, 5])
def test_cosines_of_all_pairs_without_a_loop(scenarios: int) -> None:
    r_KBH = torch.randn(scenarios, 7, 4, generator=torch.Generator().manual_seed(1))
    want_B = torch.zeros(7)
    for i, j in combinations(range(scenarios), 2):
        for row in range(7):
            one, two = r_KBH[i, row], r_KBH[j, row]
            want_B[row] += one @ two / (one.norm() * two.norm())
    torch.testing.assert_close(pairwise_cosines(r_KBH), want_B)


def test_what_has_no_direction_is_perpendicular_and_has_a_finite_gradient() -> None:
    r_KBH = torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]], [[6.0, 8.0]]], requires_grad=True)
    cosines_B = pairwise_cosines(r_KBH)
    torch.testing.assert_close(cosines_B, torch.ones(1))
    assert torch.autograd.grad(cosines_B.sum(), r_KBH)[0].isfinite().all()


def test_lower_precision_is_summed_in_fp32() -> None:
    assert pairwise_cosines(torch.ones(3, 2, 4, dtype=torch.bfloat16)).dtype == torch.float32
