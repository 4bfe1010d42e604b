"""The vectors a model reads of a row."""

from __future__ import annotations

import torch

from msr_models.modules.embedding import FieldEmbedding
from msr_models.modules.inputs import input_vectors, num_inputs
from tests.support.batches import LAYOUT, random_batch


def test_fields_come_first_and_the_pooled_behaviours_last() -> None:
    embedding, batch = FieldEmbedding(LAYOUT, 3, torch.Generator().manual_seed(1)), random_batch(9, 2)
    with_history = input_vectors(embedding, batch, "mean")
    assert with_history.shape == (9, num_inputs(LAYOUT, "mean"), 3) == (9, 5, 3)
    assert torch.equal(with_history[:, :4], embedding.fields(batch))
    assert torch.equal(with_history[:, 4], embedding.pooled_history(batch))


def test_without_pooling_there_are_only_fields() -> None:
    embedding, batch = FieldEmbedding(LAYOUT, 3, torch.Generator().manual_seed(1)), random_batch(9, 2)
    without = input_vectors(embedding, batch, "none")
    assert without.shape[1] == num_inputs(LAYOUT, "none") == 4
    assert torch.equal(without, embedding.fields(batch))
