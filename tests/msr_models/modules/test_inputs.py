"""The vectors a model reads of a row."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from msr_models.data.layout import FieldLayout
from msr_models.modules.inputs import InputLayer, SequencePooling
from schemas.errors import TrainingError
from tests.support.batches import LAYOUT, WITH_ATTRIBUTE, random_batch


def make(pooling: SequencePooling, layout: FieldLayout = LAYOUT) -> InputLayer:
    return InputLayer(layout, 3, pooling, torch.Generator().manual_seed(1))


def test_fields_come_first_and_the_pooled_behaviours_last() -> None:
    inputs, batch = make("mean"), random_batch(9, 2)
    x_BFD = inputs(batch)
    assert x_BFD.shape == (9, inputs.num_vectors, 3) == (9, 5, 3)
    assert torch.equal(x_BFD[:, :4], inputs.embedding.fields(batch))
    assert torch.equal(x_BFD[:, 4], inputs.embedding.pooled_history(batch))
    assert torch.equal(inputs.concatenated(batch), x_BFD.flatten(1)) and inputs.total_width == 15


def test_without_pooling_there_are_only_fields() -> None:
    inputs, batch = make("none"), random_batch(9, 2)
    assert torch.equal(inputs(batch), inputs.embedding.fields(batch)) and inputs.num_vectors == 4


def test_with_din_the_rows_item_asks() -> None:
    inputs, batch = make("din"), random_batch(9, 2)
    assert inputs.attention is not None
    fields_BFD = inputs.embedding.fields(batch)
    asked = inputs.attention(
        fields_BFD[:, LAYOUT.item_field], inputs.embedding.history(batch), inputs.embedding.history_mask(batch)
    )
    assert torch.equal(inputs(batch)[:, 4], asked)


def test_with_din_the_rows_item_and_attributes_ask() -> None:
    inputs, batch = make("din", WITH_ATTRIBUTE), random_batch(9, 2, layout=WITH_ATTRIBUTE)
    assert inputs.attention is not None
    table, fields_BFD = inputs.embedding, inputs.embedding.fields(batch)
    both_BD = table.target(fields_BFD, table.target_parts(batch))
    assert not torch.equal(both_BD, fields_BFD[:, LAYOUT.item_field])
    asked = inputs.attention(both_BD, table.history(batch), table.history_mask(batch))
    assert torch.equal(inputs(batch)[:, 4], asked)


def test_din_mean_is_din_over_the_number_of_behaviours() -> None:
    batch = random_batch(9, 2)
    mean_BD, sum_BD = (make(pooling)(batch)[:, 4] for pooling in ("din_mean", "din"))
    torch.testing.assert_close(mean_BD * (batch.hist_ids_BLA > 0).any(2).sum(1, keepdim=True), sum_BD)


def test_din_without_behaviours_is_refused() -> None:
    with pytest.raises(TrainingError, match="needs behaviour sequences"):
        InputLayer(dataclasses.replace(LAYOUT, hist_length=0), 3, "din", torch.Generator())
