"""M3oE against its formula, expert by expert and row by row; what its trained weights balance."""

from __future__ import annotations

import pytest
import torch

from msr_models.models.m3oe import M3oE
from msr_models.models.registry import build_model
from msr_models.modules.module_list import ModuleList
from msr_models.modules.stacked import StackedLinear
from tests.support.batches import LAYOUT, random_batch


def build(num_scenarios: int = 3) -> M3oE:
    widths = {"embedding_dim": 4, "star_width": 6, "representation_width": 5}
    options = {"num_experts": 2, "expert_hidden": [7, 4], "hidden": [3]}
    model = build_model("m3oe", widths | options, LAYOUT, num_scenarios, 1)
    assert isinstance(model, M3oE)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def expert(layers: ModuleList[StackedLinear], x: torch.Tensor, number: int) -> torch.Tensor:
    for layer in layers:
        x = (x @ layer.weight[number] + layer.bias[number]).relu()
    return x


def transcribed(model: M3oE, e: torch.Tensor, k: int) -> torch.Tensor:
    star, scenarios = model.star, model.num_scenarios
    x = e @ (star.weight_IO * star.own_weight_KIO[k]) + star.bias_O + star.own_bias_KO[k]
    x = (x @ model.behind_star.weight_IO + model.behind_star.bias_O).relu()
    x = x + (e @ model.skip.weight_IO + model.skip.bias_O).relu()
    gate = torch.softmax(x @ model.shared.gate_KEX[k], 0)
    z = gate[0] * expert(model.shared.layers, x, 0) + gate[1] * expert(model.shared.layers, x, 1)
    beta = torch.sigmoid(model.balance[0])
    own = beta * expert(model.of_scenarios, x, k)
    for j in range(scenarios):
        if j != k:
            own = own + (1 - beta) / (scenarios - 1) * expert(model.of_scenarios, x, j)
    z = z + torch.sigmoid(model.scenario_weight[0]) * own
    z = z + torch.sigmoid(model.task_weight[0]) * expert(model.of_task, x, 0)
    hidden, last = model.towers.layers
    h = (z @ hidden.weight[k] + hidden.bias[k]).relu()
    return h @ last.weight[k, :, 0] + last.bias[k, 0]


@pytest.mark.parametrize("num_scenarios", [1, 2, 3])
def test_logit_reads_the_sum_of_shared_scenario_and_task_experts(num_scenarios: int) -> None:
    model, batch = build(num_scenarios), random_batch(25, num_scenarios, share=0.3)
    e_BE, visits = model.embed(batch), model.visit(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = torch.stack([transcribed(model, e_BE[row], k) for row, k in pairs])
    torch.testing.assert_close(visits.logits_V, want, atol=1e-4, rtol=1e-4)


def test_a_balance_near_one_silences_the_experts_of_the_other_scenarios() -> None:
    model, batch = build(), random_batch(25, 3, scenarios=[1])
    before = model(batch)
    with torch.no_grad():
        model.of_scenarios[-1].bias[0] += 3.0
        assert not torch.allclose(model(batch), before)
        model.balance.fill_(40.0)
        before = model(batch)
        model.of_scenarios[-1].bias[2] += 3.0
        torch.testing.assert_close(model(batch), before)
        model.of_scenarios[-1].bias[1] += 3.0
    assert not torch.allclose(model(batch), before)


def test_the_weights_start_alike_and_train() -> None:
    model = build_model("m3oe", {}, LAYOUT, 3, 1)
    assert isinstance(model, M3oE)
    model(random_batch(40, 3)).sum().backward()
    for weight in (model.balance, model.scenario_weight, model.task_weight):
        assert weight.detach().tolist() == [1.0]
        assert weight.grad is not None and weight.grad.abs() > 0
    shares_KK = model._balances().detach()
    torch.testing.assert_close(shares_KK.sum(1), torch.ones(3))
    torch.testing.assert_close(shares_KK.diagonal(), torch.full((3,), 0.7310586))
