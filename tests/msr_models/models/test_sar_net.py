"""SAR-Net against its formulas; rows without behaviours and data sets without them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.registry import build_model
from msr_models.models.sar_net import SARNet
from msr_models.modules.routing import Routing
from schemas.errors import TrainingError
from tests.support import behaviours
from tests.support.batches import LAYOUT, WITH_ATTRIBUTE, random_batch

WIDTH, SHARED, OWN = 4, 2, 2
WITHOUT = dataclasses.replace(LAYOUT, hist_length=0)


def build(layout: FieldLayout = LAYOUT, **options: object) -> SARNet:
    small = {
        "embedding_dim": WIDTH,
        "attention_width": 5,
        "num_shared_experts": SHARED,
        "num_specific_experts": OWN,
        "hidden": [8, 6],
    }
    model = build_model("sar_net", small | options, layout, 3, 1)
    assert isinstance(model, SARNet)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def batch_with_gaps() -> Batch:
    """Some behaviours are padding; row 0 has none, row 1 one."""
    batch = random_batch(25, 3, share=0.3)
    history = batch.hist_ids_BLA.clone()
    history[:, :2] = 0
    history[:2] = 0
    history[1, 3] = 4
    return dataclasses.replace(batch, hist_ids_BLA=history)


def attended(model: SARNet, item: Tensor, vectors: list[Tensor], k: int) -> Tensor:
    part = model.attention
    assert part is not None
    query = torch.cat([part.item_and_scenario.first_weight_IO, part.item_and_scenario.second_weight_JO])
    rest = torch.cat([item, model.scenario_KD[k]]) @ query + part.item_and_scenario.bias_O
    scores = [math.exp((part.head_A @ torch.tanh(h @ part.behaviour_DA + rest)).item()) for h in vectors]
    total = torch.zeros(WIDTH)
    for score, vector in zip(scores, vectors, strict=True):
        total = total + score / sum(scores) * vector
    return total


def origin(model: SARNet, batch: Batch, row: int, k: int) -> Tensor:
    """The second attention, behaviour by behaviour."""
    part = model.origins
    assert part is not None
    weight = torch.cat([part.layer.first_weight_IO, part.layer.second_weight_JO])
    real = model.embedding.history_mask(batch)[row].tolist()
    places = [m for m, is_real in zip(batch.hist_scenario_BL[row].tolist(), real, strict=True) if is_real and m >= 0]
    scores, total = [], torch.zeros(WIDTH)
    for m in places:
        x = torch.cat([part.origin_MD[m], model.scenario_KD[k]])
        scores.append(math.exp((part.head_A @ torch.tanh(x @ weight + part.layer.bias_O)).item()))
    for score, m in zip(scores, places, strict=True):
        total = total + score / sum(scores) * part.origin_MD[m]
    return total


def transcribed(model: SARNet, batch: Batch, row: int, fields: Tensor, k: int) -> float:
    v = [fields, model.scenario_KD[k]]
    if model.attention is not None:
        item = behaviours.target_of_row(model.embedding, batch, row, fields.view(-1, WIDTH))
        v.append(attended(model, item, behaviours.behaviours_of_row(model.embedding, batch, row), k))
    if model.origins is not None:
        v.append(origin(model, batch, row, k))
    x = torch.cat(v) * model.transformation.scale_KC[k] + model.transformation.shift_KC[k]
    part, outputs = model.experts, []
    for n in range(SHARED):
        h = x
        for layer in part.shared:
            h = (h @ layer.weight[n] + layer.bias[n]).relu()
        outputs.append(h)
    for n in range(OWN):
        h = x
        for weight, bias in zip(part.own.weights, part.own.biases, strict=True):
            h = (h @ weight[k, :, n] + bias[k, n]).relu()
        outputs.append(h)
    gate = (x @ part.gate_KCX[k]).exp()
    (last,) = model.head.layers
    mixed = torch.zeros_like(outputs[0])
    for share, output in zip(gate / gate.sum(), outputs, strict=True):
        mixed = mixed + share * output
    return (mixed @ last.weight[k, :, 0] + last.bias[k, 0]).item()


@pytest.mark.parametrize(
    "options", [{}, {"behaviour_scenarios": False}, {"sequence_pooling": "none"}], ids=["both", "items", "none"]
)
def test_logits_are_those_of_the_formula(options: dict[str, Any]) -> None:
    model = build(**options)
    assert (model.origins is not None) == (options == {})
    assert_transcribed(model, batch_with_gaps())


def test_behaviours_of_unknown_scenarios_count_in_the_first_attention_alone() -> None:
    """A row with some, and a log that tells no scenario of any: t_k is then zero, and nothing of it is trained."""
    batch = batch_with_gaps()
    happened_BL = batch.hist_scenario_BL.clone()
    happened_BL[5:9, 2:] = -1
    assert_transcribed(build(), dataclasses.replace(batch, hist_scenario_BL=happened_BL))
    model, nowhere = build(), dataclasses.replace(batch, hist_scenario_BL=torch.full_like(happened_BL, -1))
    assert_transcribed(model, nowhere)
    model(nowhere).sum().backward()
    assert model.origins is not None and model.attention is not None and model.attention.behaviour_DA.grad is not None
    assert model.attention.behaviour_DA.grad.abs().max() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.origins.parameters())
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in model.origins.parameters())


def test_where_behaviours_happened_moves_the_logit() -> None:
    model, batch = build().eval(), batch_with_gaps()
    moved = (batch.hist_scenario_BL + 1) % 3
    elsewhere = dataclasses.replace(batch, hist_scenario_BL=moved.where(batch.hist_scenario_BL >= 0, -1))
    changed_B = (model(elsewhere) - model(batch)).abs() > 1e-5
    assert changed_B.float().mean() > 0.8 and not changed_B[0], "row 0 has no behaviour"


def test_behaviours_and_query_have_attributes() -> None:
    assert_transcribed(build(WITH_ATTRIBUTE), behaviours.batch_with_gaps(25, share=0.3))


def assert_transcribed(model: SARNet, batch: Batch) -> None:
    visits, fields_BE = model.visit(batch), model.inputs.concatenated(batch).detach()
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = [transcribed(model, batch, row, fields_BE[row], k) for row, k in pairs]
    assert len({round(value, 4) for value in want}) > 20
    torch.testing.assert_close(visits.logits_V, torch.tensor(want), atol=1e-4, rtol=1e-4)


def test_a_visit_attends_transforms_and_gates_as_the_visited_scenario() -> None:
    for part in ("scenario_KD", "transformation.scale_KC", "transformation.shift_KC", "experts.gate_KCX"):
        model, batch = build().eval(), random_batch(10, 3)
        before = model.scenario_logits(model.embed(batch), batch)
        with torch.no_grad():
            model.get_parameter(part)[1] += torch.linspace(-1, 1, model.get_parameter(part).shape[-1])
        changed = (model.scenario_logits(model.embed(batch), batch) - before).abs() > 1e-6
        assert changed[:, 1].all() and not changed[:, [0, 2]].any(), part


def test_the_scenario_moves_the_attention_itself() -> None:
    """The same behaviours weigh differently in another scenario: s_k stands inside the tanh."""
    model, batch = build(), random_batch(10, 3)
    part = model.attention
    assert part is not None
    with torch.no_grad():
        part.item_and_scenario.second_weight_JO.mul_(4.0)
    history_BLD, mask_BL = model.embedding.history(batch), model.embedding.history_mask(batch)
    item_BD = model.embedding.fields(batch)[:, LAYOUT.item_field]
    everywhere = Routing.everywhere(10, 3, item_BD.device)
    pooled_KBD = part(item_BD, history_BLD, mask_BL, model.scenario_KD, everywhere).view(3, 10, WIDTH)
    assert (pooled_KBD[0] - pooled_KBD[1]).abs().amax(1).gt(1e-3).all()


def test_it_starts_as_a_network_without_the_transformation() -> None:
    part = build_model("sar_net", {}, LAYOUT, 3, 1).get_submodule("transformation")
    assert (part.get_parameter("scale_KC") == 1).all() and (part.get_parameter("shift_KC") == 0).all()


def test_shared_experts_learn_from_all_rows_and_own_ones_from_their_scenario() -> None:
    model = build()
    model(random_batch(60, 3, scenarios=[1])).sum().backward()
    for layer in model.experts.shared:
        assert layer.weight.grad is not None and layer.weight.grad.flatten(1).abs().amax(1).min() > 0
    for parameter in (*model.experts.own.parameters(), *model.transformation.parameters()):
        assert parameter.grad is not None
        assert parameter.grad[1].abs().max() > 0 == parameter.grad[[0, 2]].abs().max()


def test_a_row_without_behaviours_has_finite_gradients() -> None:
    model, batch = build(), batch_with_gaps()
    model(dataclasses.replace(batch, hist_ids_BLA=torch.zeros_like(batch.hist_ids_BLA))).sum().backward()
    assert model.attention is not None
    for parameter in model.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
    grad = model.attention.behaviour_DA.grad
    assert grad is not None and grad.abs().max() == 0


def test_a_data_set_without_behaviours_says_so() -> None:
    with pytest.raises(TrainingError, match=r"'sar_net' .*needs behaviour sequences.*sequence_pooling mean or none"):
        build_model("sar_net", {}, WITHOUT, 3, 1)
    assert build_model("sar_net", {"sequence_pooling": "none"}, WITHOUT, 3, 1)
