"""Refiners of fields and products of pairs."""

from __future__ import annotations

import torch

from msr_models.modules.field_refinement import FieldRefinement, PairwiseProducts


def test_pairs_come_in_order_and_once() -> None:
    x = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    products = PairwiseProducts(4)
    want = torch.stack([(x[:, i] * x[:, j]).sum(1) for i, j in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))], dim=1)
    torch.testing.assert_close(products(x), want)
    assert products.num_pairs == 6 and PairwiseProducts(1)(x[:, :1]).shape == (5, 0)


def test_a_selector_of_one_refiner_has_no_choice() -> None:
    generator = torch.Generator().manual_seed(0)
    part, x = FieldRefinement(4, 3, 1, 2, generator), torch.randn(5, 4, 3, generator=generator)
    want = torch.stack([(x[:, i] @ part.weight_DFRO[:, i, 0]).relu() for i in range(4)], dim=1)
    scenarios = torch.randn(2, 2, generator=generator)
    torch.testing.assert_close(part(x, scenarios, torch.tensor([0, 0, 0, 1, 1])), want)


def test_scenarios_select_softly_for_each_field() -> None:
    generator = torch.Generator().manual_seed(0)
    part, x = FieldRefinement(2, 3, 2, 2, generator), torch.randn(2, 2, 3, generator=generator)
    with torch.no_grad():
        part.selector_JFR.zero_()
        part.selector_JFR[0, 0] = torch.tensor([0.0, 3.0]).log1p()  # scenario 0: 1/5 and 4/5 of field 0's
    refined = torch.einsum("vfd,dfro->vfro", x, part.weight_DFRO).relu()
    got = part(x, torch.eye(2), torch.tensor([0, 1]))
    torch.testing.assert_close(got[0, 0], 0.2 * refined[0, 0, 0] + 0.8 * refined[0, 0, 1])
    torch.testing.assert_close(got[0, 1], refined[0, 1].mean(0))
    torch.testing.assert_close(got[1], refined[1].mean(1))
