"""DFFM against its formulas; rows without behaviours and data sets without them."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.dffm import DFFM
from msr_models.models.registry import build_model
from msr_models.modules.micro_mlp import MicroMlp
from schemas.errors import TrainingError
from tests.support import behaviours
from tests.support.batches import LAYOUT, WITH_ATTRIBUTE, random_batch

WIDTH = 4
WITHOUT = dataclasses.replace(LAYOUT, hist_length=0)


def build(layout: FieldLayout = LAYOUT, **options: object) -> DFFM:
    small = {"embedding_dim": WIDTH, "micro_widths": [5, 3], "hidden": [8, 6]}
    model = build_model("dffm", small | options, layout, 3, 1)
    assert isinstance(model, DFFM)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def batch_with_gaps() -> Batch:
    """Some behaviours are padding; row 0 has none, row 1 one."""
    batch = random_batch(20, 3, share=0.3)
    history = batch.hist_ids_BLA.clone()
    history[:, :2] = 0
    history[0] = 0
    history[1] = 0
    history[1, 3] = 4
    return dataclasses.replace(batch, hist_ids_BLA=history)


def micro(part: MicroMlp, x: Tensor, k: int, widths: list[int]) -> Tensor:
    """The MLP read off scenario k's embedding, weight by weight."""
    numbers = part.scenario_KE[k].tolist()
    inputs = x.tolist()
    for depth, out in enumerate(widths):
        if depth:
            inputs = [max(value, 0.0) for value in inputs]
        matrix = [[numbers.pop(0) for _ in range(out)] for _ in inputs]
        bias = [numbers.pop(0) for _ in range(out)]
        inputs = [bias[o] + sum(value * matrix[i][o] for i, value in enumerate(inputs)) for o in range(out)]
    assert not numbers
    return torch.tensor(inputs)


def attended(model: DFFM, item: Tensor, history: list[Tensor], k: int, widths: list[int]) -> Tensor:
    assert model.attention is not None
    query = micro(model.attention.query, item, k, widths)
    last = widths[-1]
    scores, values = [], []
    for vector in history:
        both = micro(model.attention.behaviour, vector, k, [*widths[:-1], 2 * last])
        scores.append(math.exp(float(both[:last] @ query) / math.sqrt(last)))
        values.append(both[last:])
    total = torch.zeros(last)
    for score, value in zip(scores, values, strict=True):
        total = total + score / sum(scores) * value
    return total


def transcribed(model: DFFM, batch: Batch, row: int, fields: Tensor, k: int) -> float:
    widths = list(model.config.micro_widths)
    vectors = fields.split(WIDTH)
    moved = [micro(model.interaction, vector, k, widths) for vector in vectors]
    pairs = [moved[i] @ moved[j] for i in range(len(moved)) for j in range(i + 1, len(moved))]
    read = [fields, torch.stack(pairs)]
    if model.attention is not None:
        item = behaviours.target_of_row(model.embedding, batch, row, torch.stack(vectors))
        history = behaviours.behaviours_of_row(model.embedding, batch, row)
        read.append(attended(model, item, history, k, widths))
    first = torch.cat([model.first.first_weight_IO, model.first.second_weight_JO])
    h = (torch.cat(read) @ first + model.first.bias_O).relu()
    *layers, last = model.rest.layers
    for layer in layers:
        h = (h @ layer.weight[0] + layer.bias[0]).relu()
    return (h @ last.weight[0, :, 0] + last.bias[0, 0]).item()


@pytest.mark.parametrize("pooling", ["scenario_attention", "none"])
@pytest.mark.parametrize("widths", [[3], [5, 3]])
def test_logits_are_those_of_the_formula(pooling: str, widths: list[int]) -> None:
    assert_transcribed(build(sequence_pooling=pooling, micro_widths=widths), batch_with_gaps())


def test_behaviours_and_query_have_attributes() -> None:
    assert_transcribed(build(WITH_ATTRIBUTE), behaviours.batch_with_gaps(20, share=0.3))


def assert_transcribed(model: DFFM, batch: Batch) -> None:
    visits, fields_BE = model.visit(batch), model.inputs.concatenated(batch).detach()
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = [transcribed(model, batch, row, fields_BE[row], k) for row, k in pairs]
    torch.testing.assert_close(visits.logits_V, torch.tensor(want), atol=1e-4, rtol=1e-4)


def test_a_row_without_behaviours_has_finite_gradients() -> None:
    model, batch = build(), batch_with_gaps()
    model(dataclasses.replace(batch, hist_ids_BLA=torch.zeros_like(batch.hist_ids_BLA))).sum().backward()
    assert model.attention is not None
    for parameter in model.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()
    grad = model.attention.behaviour.scenario_KE.grad
    assert grad is not None and grad.abs().max() == 0


def test_a_data_set_without_behaviours_says_so() -> None:
    with pytest.raises(TrainingError, match=r"'dffm' .*needs behaviour sequences.*sequence_pooling mean or none"):
        build_model("dffm", {}, WITHOUT, 3, 1)
    assert build_model("dffm", {"sequence_pooling": "none"}, WITHOUT, 3, 1)
