"""The weights of AdaSparse's neurons."""

from __future__ import annotations

import pytest
import torch

from msr_models.modules.neuron_weights import NeuronForm, neuron_weights, sparsity_excess

V = torch.tensor([[-40.0, -2.0, -0.5, 0.0, 0.5, 40.0]])
ALPHA = torch.tensor(2.0)


def test_binarisation_gives_0_and_1() -> None:
    weight, kept = neuron_weights(V, ALPHA, "binarisation", 2.0, 0.25)
    assert weight.tolist() == [[0.0, 0.0, 1.0, 1.0, 1.0, 1.0]]  # never -1
    assert kept is not None and torch.equal(kept, weight)


def test_fusion_is_exactly_0_where_it_cuts() -> None:
    weight, kept = neuron_weights(V, ALPHA, "fusion", 2.0, 0.25)
    soft = 2 * (2 * V).sigmoid()
    torch.testing.assert_close(weight[0, 2:], soft[0, 2:])
    assert weight[0, :2].tolist() == [0.0, 0.0]
    assert kept is not None and kept.tolist() == [[0.0, 0.0, 1.0, 1.0, 1.0, 1.0]]


def test_scaling_cuts_nothing_and_does_not_grow() -> None:
    weight, kept = neuron_weights(V, ALPHA, "scaling", 2.0, 0.25)
    assert kept is None
    torch.testing.assert_close(weight, 2 * V.sigmoid())


@pytest.mark.parametrize("form", ["binarisation", "fusion"])
def test_a_step_has_the_gradient_of_the_sigmoid(form: NeuronForm) -> None:
    v = V.clone().requires_grad_()
    weight, kept = neuron_weights(v, ALPHA, form, 2.0, 0.25)
    assert kept is not None
    slope = 2 * (2 * V).sigmoid() * (1 - (2 * V).sigmoid())
    torch.testing.assert_close(torch.autograd.grad(kept.sum(), v, retain_graph=True)[0], slope)
    of_weight = slope if form == "binarisation" else torch.where(weight > 0, 2 * slope, 0.0)
    torch.testing.assert_close(torch.autograd.grad(weight.sum(), v)[0], of_weight)


def test_sparsity_costs_outside_the_range_only() -> None:
    kept = torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 0, 1, 0, 0]])
    torch.testing.assert_close(sparsity_excess(kept, 0.1, 0.3), torch.tensor([0.04, 0.0, 0.16]))
