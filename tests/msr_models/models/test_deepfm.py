"""DeepFM against its formula, pair by pair and id by id."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.deepfm import DeepFM
from msr_models.models.registry import build_model
from msr_models.modules.field_vectors import FieldVectors
from tests.support.batches import LAYOUT, WITH_ATTRIBUTE, random_batch
from tests.support.behaviours import batch_with_gaps, behaviours_of_row, target_of_row


def build(layout: FieldLayout = LAYOUT, **options: object) -> DeepFM:
    model = build_model("deepfm", {"embedding_dim": 4, "hidden": [6, 5]} | options, layout, 3, 1)
    assert isinstance(model, DeepFM)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def vectors_of_row(table: FieldVectors, batch: Batch, row: int) -> list[torch.Tensor]:
    """The row's field vectors by hand: user, item, mean of tags, price, mean of behaviours."""
    of_user, of_item, of_tags, of_price = (table.vectors_of(f) for f in range(LAYOUT.num_fields))

    def mean(real: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(real).sum(0) / len(real) if real else torch.zeros(table.width)

    user, item, *tags, price = batch.slot_ids_BS[row].tolist()
    single = [of_user[user], of_item[item]]
    tags_mean = mean([of_tags[i] for i in tags if i > 0])
    return [*single, tags_mean, of_price[price], mean(behaviours_of_row(table, batch, row))]


def attended(model: DeepFM, batch: Batch, row: int) -> torch.Tensor:
    """The row's behaviours under target attention, [D]."""
    table, attention = model.embedding, model.inputs.attention
    assert attention is not None
    history = behaviours_of_row(table, batch, row)
    if not history:
        return torch.zeros(table.width)
    item = target_of_row(table, batch, row, torch.stack(vectors_of_row(table, batch, row)))
    pooled: torch.Tensor = attention(item[None], torch.stack(history)[None], torch.ones(1, len(history)).bool())[0]
    return pooled


def transcribed(
    model: DeepFM, batch: Batch, row: int, k: int, fields: int, pooled: torch.Tensor | None = None
) -> float:
    """pooled: the behaviours' vector in pairs and MLP; None: their mean, as it is in the linear part always."""
    vectors = vectors_of_row(model.embedding, batch, row)[:fields]
    vectors = vectors if pooled is None else [*vectors[:-1], pooled]
    first = sum(w[k].item() for w in vectors_of_row(model.linear, batch, row)[:fields])
    second = sum((v @ w).item() for v, w in combinations(vectors, 2))
    h = torch.cat(vectors)
    for depth, layer in enumerate(model.towers.layers):
        h = h @ layer.weight[k] + layer.bias[k]
        h = h.relu() if depth < 2 else h
    return first + second + h.item()


BATCHES = {LAYOUT: random_batch(25, 3, share=0.3), WITH_ATTRIBUTE: batch_with_gaps(25, share=0.3)}


@torch.no_grad()
@pytest.mark.parametrize(("pooling", "fields"), [("mean", 5), ("none", 4)])
@pytest.mark.parametrize("layout", BATCHES)
def test_logit_is_linear_plus_pairs_plus_mlp_of_the_scenario(layout: FieldLayout, pooling: str, fields: int) -> None:
    model, batch = build(layout, sequence_pooling=pooling), BATCHES[layout]
    visits = model.visit(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = [transcribed(model, batch, row, k, fields) for row, k in pairs]
    torch.testing.assert_close(visits.logits_V, torch.tensor(want), atol=1e-3, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("layout", BATCHES)
def test_target_attention_pools_for_pairs_and_mlp_and_the_linear_part_keeps_the_mean(layout: FieldLayout) -> None:
    model, batch = build(layout, sequence_pooling="din"), BATCHES[layout]
    visits = model.visit(batch)
    pairs = list(zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True))
    want = [transcribed(model, batch, row, k, 5, attended(model, batch, row)) for row, k in pairs]
    torch.testing.assert_close(visits.logits_V, torch.tensor(want), atol=1e-3, rtol=2e-3)
    mean = [transcribed(model, batch, row, k, 5) for row, k in pairs]
    assert float((torch.tensor(mean) - visits.logits_V).abs().max()) > 0.1, "or the two poolings are one here"


def test_linear_weights_start_at_zero_and_belong_to_one_scenario() -> None:
    model = build_model("deepfm", {}, LAYOUT, 3, 1)
    assert isinstance(model, DeepFM)
    assert model.linear.weight.abs().max() == 0
    model(random_batch(60, 3, scenarios=[0, 2])).sum().backward()
    grad = model.linear.weight.grad
    assert grad is not None
    assert grad[:, 1].abs().max() == 0
    assert grad[:, 0].abs().max() > 0 and grad[:, 2].abs().max() > 0


def test_linear_and_pairwise_terms_keep_full_precision_under_autocast() -> None:
    model, batch = build(), random_batch(200, 3)
    with torch.no_grad():
        model.towers.layers[-1].weight.zero_()
        model.towers.layers[-1].bias.zero_()
        e_BE = model.embed(batch)
        exact = model.scenario_logits(e_BE, batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = model.scenario_logits(e_BE, batch)
    torch.testing.assert_close(low, exact, atol=1e-5, rtol=1e-6)
