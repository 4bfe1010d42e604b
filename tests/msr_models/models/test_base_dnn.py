"""BaseDNN against its formula, row by row."""

from __future__ import annotations

import pytest
import torch

from msr_models.models.base_dnn import BaseDNN
from msr_models.models.registry import build_model
from tests.support.batches import LAYOUT, random_batch


def build(**options: object) -> BaseDNN:
    small = {"embedding_dim": 4, "hidden": [7, 6, 5]}
    model = build_model("base_dnn", small | options, LAYOUT, 3, 1)
    assert isinstance(model, BaseDNN)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def transcribed(model: BaseDNN, e: torch.Tensor, k: int) -> torch.Tensor:
    net = model.network
    if net.scenario_KD is None:
        h = (e @ net.weight_EH + net.bias_H).relu()
    else:
        assert net.scenario_weight_DH is not None
        h = (torch.cat([e, net.scenario_KD[k]]) @ torch.cat([net.weight_EH, net.scenario_weight_DH])).add(net.bias_H)
        h = h.relu()
    for layer in net.layers:
        h = (h @ layer.weight[0] + layer.bias[0]).relu()
    return h @ net.head_H + net.head_bias[0]


@pytest.mark.parametrize("scenario_input", [True, False])
def test_logit_is_one_network_on_fields_and_scenario(scenario_input: bool) -> None:
    model, batch = build(scenario_input=scenario_input), random_batch(25, 3, share=0.3)
    e_BE, visits = model.embed(batch), model.visit(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = torch.stack([transcribed(model, e_BE[row], k) for row, k in pairs])
    torch.testing.assert_close(visits.logits_V, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scenario_input", [True, False])
def test_the_scenario_matters_where_it_is_an_input(scenario_input: bool) -> None:
    model, batch = build(scenario_input=scenario_input), random_batch(25, 3)
    logits_BK = model.scenario_logits(model.embed(batch), batch)
    assert torch.equal(logits_BK[:, 0], logits_BK[:, 1]) is not scenario_input
    assert not model.has_towers and len(list(model.network.parameters())) == (10 if scenario_input else 8)


def test_dropout_is_for_training_alone() -> None:
    model, batch = build(dropout=0.5), random_batch(25, 3)
    assert not torch.equal(model(batch), model(batch))
    assert torch.equal(model.eval()(batch), model(batch))


def test_without_the_scenario_as_input_its_base_rate_is_none_either() -> None:
    model = build_model("base_dnn", {"scenario_input": False}, LAYOUT, 3, 1)
    model.start_from_base_rates(torch.tensor([80, 100, 0]), torch.tensor([20, 30, 0]))
    assert len(model.base_logit_K.unique()) == 1 and float(model.base_logit_K[0].sigmoid()) == pytest.approx(
        50 / 180, abs=0.01
    )
