"""M2M against its formulas; what the generated weights depend on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from msr_models.models.m2m import M2M, MetaUnit
from msr_models.models.registry import build_model
from tests.support.batches import LAYOUT, random_batch

EXPERTS = 3


def build(**options: object) -> M2M:
    small = {
        "embedding_dim": 4,
        "num_experts": EXPERTS,
        "hidden": [8, 6],
        "knowledge_width": 5,
        "attention_width": 7,
        "tower_layers": 2,
    }
    model = build_model("m2m", small | options, LAYOUT, 3, 1)
    assert isinstance(model, M2M)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return model


def knowledge(model: M2M, k: int) -> Tensor:
    return F.leaky_relu(model.scenario_KD[k] @ model.knowledge.weight_IO + model.knowledge.bias_O)


def meta(unit: MetaUnit, known: Tensor, h: Tensor) -> Tensor:
    """W h + b, W and b number by number."""
    weight, bias = unit.common_weight_IO.clone(), unit.common_bias_O.clone()
    for s, value in enumerate(known):
        weight = weight + value * unit.weight_SIO[s]
        bias = bias + value * unit.bias_SO[s]
    return h @ weight + bias


def experts(model: M2M, e: Tensor) -> list[Tensor]:
    outputs = []
    for n in range(EXPERTS):
        x = e
        for layer in model.experts:
            x = (x @ layer.weight[n] + layer.bias[n]).relu()
        outputs.append(x)
    return outputs


def transcribed(model: M2M, e: Tensor, k: int) -> float:
    known, outputs = knowledge(model, k), experts(model, e)
    part = model.attention
    scores = [
        (part.head_O @ F.leaky_relu(meta(part.unit, known, torch.cat([output, part.task_T])))).exp()
        for output in outputs
    ]
    h = torch.zeros_like(outputs[0])
    for score, output in zip(scores, outputs, strict=True):
        h = h + score / torch.stack(scores).sum() * output
    for unit in model.tower:
        h = F.leaky_relu(meta(unit, known, h) + h)
    (last,) = model.head.layers
    return (h @ last.weight[0, :, 0] + last.bias[0, 0]).item()


@pytest.mark.parametrize("tower_layers", [1, 3])
def test_logits_are_those_of_the_formula(tower_layers: int) -> None:
    model, batch = build(tower_layers=tower_layers), random_batch(25, 3, share=0.3)
    visits, e_BE = model.visit(batch), model.embed(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = [transcribed(model, e_BE[row], k) for row, k in pairs]
    assert len({round(value, 4) for value in want}) > 20
    torch.testing.assert_close(visits.logits_V, torch.tensor(want), atol=1e-4, rtol=1e-4)


def test_without_generated_weights_the_tower_passes_its_input_on() -> None:
    """The residual: L_j = σ(L_{j-1}), and the attention is the mean of the experts."""
    model, batch = build(), random_batch(25, 3)
    with torch.no_grad():
        for part in (*model.tower.parameters(), *model.attention.unit.parameters()):
            part.zero_()
    (last,) = model.head.layers
    mean = torch.stack([torch.stack(experts(model, e)).mean(0) for e in model.embed(batch)])
    assert mean.min() >= 0  # so that σ is the identity
    torch.testing.assert_close(model(batch), mean @ last.weight[0, :, 0] + last.bias[0, 0], atol=1e-5, rtol=1e-5)


def test_a_visit_uses_the_weights_of_the_visited_scenario() -> None:
    model, batch = build().eval(), random_batch(10, 3)
    before = model.scenario_logits(model.embed(batch), batch)
    with torch.no_grad():
        model.scenario_KD[1] += 1.0
    after = model.scenario_logits(model.embed(batch), batch)
    changed = (after - before).abs() > 1e-6
    assert changed[:, 1].all() and not changed[:, [0, 2]].any()


def test_the_task_tells_the_attention_something() -> None:
    model, batch = build(), random_batch(25, 3)
    before = model(batch)
    with torch.no_grad():
        model.attention.task_T.add_(1.0)
    assert (model(batch) - before).abs().max() > 1e-3


def test_scenarios_with_the_same_knowledge_score_alike() -> None:
    """All that is a scenario's own is its embedding: a new one needs no tower."""
    model, batch = build().eval(), random_batch(10, 3)
    own = [name for name, parameter in model.named_parameters() if parameter.shape[0] == 3 and "expert" not in name]
    assert own == ["scenario_KD"]
    with torch.no_grad():
        model.scenario_KD[2] = model.scenario_KD[0]
    logits_BK = model.scenario_logits(model.embed(batch), batch)
    torch.testing.assert_close(logits_BK[:, 2], logits_BK[:, 0])
    assert (logits_BK[:, 1] - logits_BK[:, 0]).abs().min() > 1e-5
