"""SFPNet against its equations, behaviour by behaviour; its ablations; what may not reach a logit."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.registry import build_model
from msr_models.models.sfpnet import SFPNet
from msr_models.modules.dense import Dense
from msr_models.modules.tailoring_block import ScenarioTailoringBlock
from msr_models.modules.tailoring_gate import ScenarioGate
from schemas.errors import TrainingError
from tests.support.batches import LAYOUT, WITH_ATTRIBUTE, random_batch
from tests.support.behaviours import batch_with_gaps, behaviours_of_row, target_of_row

ABLATIONS = (None, "dap", "sam", "rtm", "s_dnn", "stb")


def build(layout: FieldLayout = LAYOUT, **options: object) -> SFPNet:
    small = {"embedding_dim": 3, "num_blocks": 2, "gate_hidden": 5, "context_hidden": 6, "hidden": [7, 4]}
    model = build_model("sfpnet", small | options, layout, 3, 1)
    assert isinstance(model, SFPNet)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator))
    return model


def layer(dense: Dense, x: torch.Tensor) -> torch.Tensor:
    return dense.weight_IO.T @ x + dense.bias_O


def opening(gate: ScenarioGate, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """Eq. 3 and eq. 10."""
    weight = torch.cat([gate.joined.first_weight_IO, gate.joined.second_weight_JO])
    h = (weight.T @ torch.cat([x, s]) + gate.joined.bias_O).relu()
    h = (h - h.mean()) / torch.sqrt(h.var(correction=0) + 1e-5) * gate.norm.weight + gate.norm.bias
    return torch.sigmoid(layer(gate.out, h))


def tailored(
    block: ScenarioTailoringBlock, x: list[torch.Tensor], v: list[torch.Tensor], s: torch.Tensor, without: str | None
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Eq. 2-7 for one row and one scenario."""
    n, d = max(len(v), 1), len(s)
    mean = sum(v, torch.zeros(d)) / n
    std = torch.sqrt((sum((b * b for b in v), torch.zeros(d)) / n - mean * mean).clamp(min=0))
    fields = torch.cat(x)
    joined = torch.cat([fields, mean] if without == "dap" else [fields, mean, std])
    gate = block.gate
    if without == "rtm":
        assert gate is not None
        return list((fields * opening(gate, joined, s)).split(d)), v
    context = joined if gate is None else joined * opening(gate, joined, s)
    *c, c_b = layer(block.signals, layer(block.context, context).relu()).split(d)
    new_x = []
    for i, x_i in enumerate(x):
        w_1, w_2 = block.field_weight_FDT[i].split(d, dim=1)
        b_1, b_2 = block.field_bias_FT[i].split(d)
        new_x.append((w_1.T @ x_i + b_1).relu() + torch.sigmoid(w_2.T @ x_i + b_2) * c[i])
    w_4, w_5 = block.behaviour.weight_IO.split(d, dim=1)
    b_4, b_5 = block.behaviour.bias_O.split(d)
    new_v = [(w_4.T @ v_i + b_4).relu() + torch.sigmoid(w_5.T @ v_i + b_5) * c_b for v_i in v]
    return new_x, new_v


def transcribed(model: SFPNet, batch: Batch, row: int, k: int) -> torch.Tensor:
    """The logit of one row in one scenario, eq. 2-11."""
    without, s = model.config.without, model.scenario_KS[k]
    x = list(model.embedding.fields(batch)[row])
    v = behaviours_of_row(model.embedding, batch, row)
    for block in model.blocks:
        x, v = tailored(block, x, v, s, without)
    unit, q = model.attention, target_of_row(model.embedding, batch, row, torch.stack(x))
    pooled = torch.zeros_like(s)
    for v_i in v:
        h = unit.weight_IH.T @ torch.cat([v_i, q, v_i - q, v_i * q]) + unit.bias_H
        h = torch.stack([a if a > 0 else slope * a for a, slope in zip(h, unit.slope_H, strict=True)])
        pooled = pooled + (unit.head_H @ h + unit.head_bias[0]) * v_i
    h = torch.cat([*x, pooled])
    for j, dense in enumerate(model.head.layers):
        gated = h if model.head.gates is None else h * opening(model.head.gates[j], h, s)
        h = layer(dense, gated).relu()
    return model.head.head_H @ h + model.head.head_bias[0]


def assert_transcribed(model: SFPNet, batch: Batch) -> None:
    visits = model.visit(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    with torch.no_grad():
        want = torch.stack([transcribed(model, batch, row, k) for row, k in pairs])
    assert want.std() > 0.1
    torch.testing.assert_close(visits.logits_V.detach(), want, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("without", ABLATIONS)
def test_logit_is_that_of_the_equations(without: str | None) -> None:
    assert_transcribed(build(without=without), random_batch(12, 3, share=0.3))


@pytest.mark.parametrize("without", ABLATIONS)
def test_behaviours_and_target_have_attributes(without: str | None) -> None:
    assert_transcribed(build(WITH_ATTRIBUTE, without=without), batch_with_gaps(12, share=0.3))


@pytest.mark.parametrize("num_blocks", [1, 3, 4, 5])
def test_blocks_are_stacked(num_blocks: int) -> None:
    model = build(num_blocks=num_blocks)
    assert len(model.blocks) == num_blocks
    assert_transcribed(model, random_batch(6, 3, share=0.3))


@pytest.mark.parametrize("without", ABLATIONS)
def test_what_is_left_of_an_ablation_trains(without: str | None) -> None:
    model, batch = build(without=without), random_batch(200, 3, share=0.2)
    torch.nn.functional.softplus(model.visit(batch).logits_V).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
    keys = " ".join(dict(model.named_parameters()))
    assert ("blocks" not in keys) == (without == "stb") and ("head.gates" not in keys) == (without == "s_dnn")
    assert without == "stb" or ("blocks.0.gate" not in keys) == (without == "sam")
    assert without == "stb" or ("behaviour" not in keys) == (without == "rtm")


@pytest.mark.parametrize("without", ABLATIONS)
def test_padding_reaches_no_logit(without: str | None) -> None:
    """Its vector is that of items out of vocabulary: moving it may move only the rows whose item is such a one."""
    model, batch = build(without=without), random_batch(60, 3)
    known = batch.slot_ids_BS[:, LAYOUT.slot_starts[LAYOUT.item_field]] > 0
    before = model(batch)
    with torch.no_grad():
        model.embedding.get_parameter("weight")[LAYOUT.row_starts[LAYOUT.item_field]] += 5.0
    assert torch.equal(model(batch)[known], before[known])
    assert not torch.equal(model(batch)[~known], before[~known])


@pytest.mark.parametrize("items", [(0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 3), (4, 4, 4, 4, 4, 4)])
def test_behaviours_without_variance_have_finite_gradients(items: tuple[int, ...]) -> None:
    model, batch = build(), random_batch(30, 3)
    same = dataclasses.replace(batch, hist_ids_BLA=torch.tensor([items] * 30, dtype=torch.int32)[:, :, None])
    model(same).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("without", "rows_seen"),
    [(None, [20, 60, 60]), ("dap", [20, 60, 60]), ("sam", [20, 20, 20]), ("s_dnn", [20, 60, 60])],
)
def test_what_knows_no_scenario_is_computed_once_per_row(without: str | None, rows_seen: list[int]) -> None:
    model, seen = build(without=without, num_blocks=3), list[int]()
    for block in model.blocks:
        block.behaviour.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    assert len(model.visit(random_batch(20, 3, share=2.0)).logits_V) == 60
    assert seen == rows_seen


def test_a_data_set_without_behaviours_is_refused() -> None:
    bare = dataclasses.replace(LAYOUT, hist_length=0)
    with pytest.raises(TrainingError, match=r"^model 'sfpnet' needs behaviour sequences, and .* set max_length in"):
        build_model("sfpnet", {}, bare, 3, 1)


def test_an_unknown_ablation_lists_the_known_ones() -> None:
    with pytest.raises(TrainingError, match=r"option without: 'tower' .*'dap', 'sam', 'rtm', 's_dnn' or 'stb'"):
        build_model("sfpnet", {"without": "tower"}, LAYOUT, 3, 1)
