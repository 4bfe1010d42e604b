"""The pairwise part of a factorisation machine."""

from __future__ import annotations

from itertools import combinations

import torch

from msr_models.modules.factorisation import second_order


def test_it_is_the_sum_of_all_pairs_products() -> None:
    x = torch.randn(20, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    want = [sum(float(x[b, i] @ x[b, j]) for i, j in combinations(range(6), 2)) for b in range(20)]
    torch.testing.assert_close(second_order(x), torch.tensor(want).float(), atol=1e-4, rtol=0)


def test_one_field_has_no_pairs() -> None:
    assert second_order(torch.randn(7, 1, 4)).abs().max() < 1e-5
