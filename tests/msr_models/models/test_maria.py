"""MARIA against its formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msr_models.models.maria import Maria
from msr_models.models.registry import build_model
from msr_models.modules.stacked import StackedTowers
from tests.support.batches import LAYOUT, random_batch

WIDTH, REFINERS, EXPERTS = 4, 3, 2


def build(**options: object) -> Maria:
    small = {
        "embedding_dim": WIDTH,
        "num_refiners": REFINERS,
        "num_experts": EXPERTS,
        "expert_hidden": [8, 7],
        "hidden": [6],
    }
    model = build_model("maria", small | options, LAYOUT, 3, 1)
    assert isinstance(model, Maria)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def scaled(model: Maria, e: Tensor, k: int) -> Tensor:
    weight = torch.cat([model.scaling.first_weight_IO, model.scaling.second_weight_JO])
    return 2 * torch.sigmoid(torch.cat([e, model.scenario_KD[k]]) @ weight + model.scaling.bias_O) * e


def refined(model: Maria, x: Tensor, k: int) -> list[Tensor]:
    part, fields = model.refinement, []
    for i, vector in enumerate(x.split(WIDTH)):
        scores = model.scenario_KD[k] @ part.selector_JFR[:, i] + part.selector_bias_1FR[0, i]
        field = torch.zeros(WIDTH)
        for r in range(REFINERS):
            refiner = (vector @ part.weight_DFRO[:, i, r] + part.bias_1FRO[0, i, r]).relu()
            field = field + scores.exp()[r] / scores.exp().sum() * refiner
        fields.append(field)
    return fields


def through(stacked: StackedTowers, x: Tensor, k: int) -> Tensor:
    *layers, last = stacked.layers
    for layer in layers:
        x = (x @ layer.weight[k] + layer.bias[k]).relu()
    return x @ last.weight[k, :, 0] + last.bias[k, 0]


def transcribed(model: Maria, e: Tensor, k: int) -> float:
    fields = refined(model, scaled(model, e, k), k)
    products = [fields[i] @ fields[j] for i in range(len(fields)) for j in range(i + 1, len(fields))]
    x = torch.cat([*fields, torch.stack(products)])
    gate = (x @ model.mixtures.gate_KEX[k]).exp()
    z = torch.zeros(7)
    for n in range(EXPERTS):
        expert = x
        for layer in model.mixtures.layers:
            expert = (expert @ layer.weight[n] + layer.bias[n]).relu()
        z = z + gate[n] / gate.sum() * expert
    return (through(model.towers, z, k) + through(model.shared_tower, z, 0)).item()


@pytest.mark.parametrize("pooling", ["mean", "din", "none"])
def test_logits_are_those_of_the_formula(pooling: str) -> None:
    model, batch = build(sequence_pooling=pooling), random_batch(20, 3, share=0.3)
    visits, e_BE = model.visit(batch), model.embed(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = [transcribed(model, e_BE[row], k) for row, k in pairs]
    assert len({round(value, 4) for value in want}) > 20
    torch.testing.assert_close(visits.logits_V, torch.tensor(want), atol=1e-4, rtol=1e-4)


def test_a_shared_rows_visit_reads_what_its_scenario_made_of_the_row() -> None:
    """Scaling and refinement come from the visited scenario, not from the row's own."""
    model, batch = build().eval(), random_batch(10, 3)
    before = model.scenario_logits(model.embed(batch), batch)
    with torch.no_grad():
        model.scenario_KD[1] += 1.0
    after = model.scenario_logits(model.embed(batch), batch)
    changed = (after - before).abs() > 1e-6
    assert changed[:, 1].all() and not changed[:, [0, 2]].any()


def test_the_shared_tower_learns_from_all_and_a_tower_from_its_own() -> None:
    model = build()
    model(random_batch(60, 3, scenarios=[0, 2])).sum().backward()
    for layer in model.towers.layers:
        assert layer.bias.grad is not None and layer.bias.grad[1].abs().max() == 0 < layer.bias.grad[0].abs().max()
    first = model.shared_tower.layers[0].bias.grad
    model.zero_grad()
    model(random_batch(60, 3, scenarios=[1])).sum().backward()
    second = model.shared_tower.layers[0].bias.grad
    assert first is not None and second is not None and min(first.abs().max(), second.abs().max()) > 0
