"""DCN-V2 against its formulas, layer by layer, row by row and expert by expert."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from msr_models.models.dcn_v2 import DCNV2, LowRankLayer, LowRankMixture
from msr_models.models.registry import build_model
from msr_models.modules.stacked import StackedLinear
from schemas.errors import MsrError
from tests.support.batches import LAYOUT, random_batch

MIXTURE = {"rank": 3, "cross_experts": 2}


def build(**options: object) -> DCNV2:
    model = build_model("dcn_v2", {"embedding_dim": 4, "hidden": [6, 5]} | options, LAYOUT, 3, 1)
    assert isinstance(model, DCNV2)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def matrix_times(layer: nn.Module, x: Tensor, k: int) -> Tensor:
    """W x + b of scenario k, from whatever W is made of."""
    if isinstance(layer, StackedLinear):
        return layer.weight[k].T @ x + layer.bias[k]
    if isinstance(layer, LowRankLayer):
        return (layer.u.weight[k].T @ layer.v_KER[k].T) @ x + layer.u.bias[k]
    assert isinstance(layer, LowRankMixture)
    experts, rank = layer.c_KXRR.shape[1:3]
    gates = (layer.gate_KEX[k].T @ x).exp()
    total = torch.zeros_like(x)
    for i in range(experts):
        part = slice(i * rank, (i + 1) * rank)
        inner = torch.tanh(layer.c_KXRR[k, i].T @ torch.tanh(layer.v_KEY[k][:, part].T @ x))
        total = total + gates[i] / gates.sum() * (layer.u_KYE[k][part].T @ inner + layer.bias_KE[k])
    return total


def deep(model: DCNV2, h: Tensor, k: int) -> Tensor:
    *layers, last = model.towers.layers
    for tower in layers:
        h = (h @ tower.weight[k] + tower.bias[k]).relu()
    return last.weight[k, :, 0] @ h + last.bias[k, 0]


def transcribed(model: DCNV2, x_0: Tensor, k: int) -> Tensor:
    x = x_0
    for layer in model.cross:
        x = x_0 * matrix_times(layer, x, k) + x
    logit = deep(model, x_0 if model.config.structure == "parallel" else x, k)
    return logit if model.head_KE is None else logit + model.head_KE[k] @ x


@pytest.mark.parametrize("cross", [{}, {"rank": 3}, MIXTURE, {"rank": 4, "cross_experts": 3, "cross_layers": 1}])
@pytest.mark.parametrize("structure", ["parallel", "stacked"])
def test_logits_are_those_of_the_formula(cross: dict[str, object], structure: str) -> None:
    model, batch = build(structure=structure, **cross), random_batch(25, 3, share=0.3)
    e_BE, visits = model.embed(batch), model.visit(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = torch.stack([transcribed(model, e_BE[row], k) for row, k in pairs])
    assert len({round(value, 4) for value in want.tolist()}) > 20
    torch.testing.assert_close(visits.logits_V, want, atol=1e-4, rtol=1e-4)


def test_one_layer_makes_the_products_of_two_inputs_and_two_layers_those_of_three() -> None:
    """With the matrix one and the bias zero x_1 = x + x², x_2 = x (x + x²) + x + x²: the factor is x_0, not x_l."""
    for depth in (1, 2):
        model = build(cross_layers=depth)
        assert model.head_KE is not None
        with torch.no_grad():
            for parameter in (*model.towers.parameters(), model.head_KE):
                parameter.zero_()
            model.head_KE[:, 7] = 1.0
            for layer in model.cross:
                assert isinstance(layer, StackedLinear)
                layer.weight.copy_(torch.eye(model.embedded_width).expand(3, -1, -1))
                layer.bias.zero_()
        batch = random_batch(25, 3)
        x_B = model.embed(batch)[:, 7]
        first_B = x_B + x_B**2
        want_B = first_B if depth == 1 else x_B * first_B + first_B
        torch.testing.assert_close(model(batch), want_B, atol=1e-5, rtol=1e-5)


def test_the_bias_of_a_mixture_counts_once() -> None:
    model = build(cross_layers=1, **MIXTURE)
    (layer,) = model.cross
    assert isinstance(layer, LowRankMixture)
    with torch.no_grad():
        layer.u_KYE.zero_()
        layer.bias_KE.fill_(2.0)
    assert model.head_KE is not None
    batch = random_batch(9, 3)
    e_BE = model.embed(batch)
    want_B = torch.stack([3 * e @ model.head_KE[1] + deep(model, e, 1) for e in e_BE])
    torch.testing.assert_close(model.scenario_logits(e_BE, batch)[:, 1], want_B)


def test_experts_without_a_rank_are_refused() -> None:
    with pytest.raises(MsrError, match=r"cross_experts is 4.* set rank"):
        build_model("dcn_v2", {"cross_experts": 4}, LAYOUT, 3, 1)


def test_a_low_rank_has_fewer_weights() -> None:
    full, low = (sum(p.numel() for p in build(**options).cross.parameters()) for options in ({}, {"rank": 2}))
    width = build().embedded_width
    assert full == 3 * 3 * (width * width + width) and low == 3 * 3 * (4 * width + width)
