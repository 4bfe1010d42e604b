"""One layer for all scenarios."""

from __future__ import annotations

import math

import torch

from msr_models.modules.dense import Dense


def test_a_layer_is_a_product_and_a_bias() -> None:
    dense, x_VI = Dense(3, 4, torch.Generator().manual_seed(1)), torch.arange(6.0).view(2, 3)
    with torch.no_grad():
        dense.bias_O.copy_(torch.arange(4.0))
    torch.testing.assert_close(dense(x_VI), x_VI @ dense.weight_IO + torch.arange(4.0))
    assert dense(x_VI[None]).shape == (1, 2, 4)


def test_parts_side_by_side_start_as_layers_of_their_own() -> None:
    for parts, outs in ((1, 80), (2, 40)):
        weight = Dense(20, 80, torch.Generator().manual_seed(1), parts).weight_IO
        bound = math.sqrt(6.0 / (20 + outs))
        assert 0.99 * bound < weight.abs().max() <= bound
