"""What a model reads of a row: one vector per field, and one more for the behaviours."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.modules.embedding import FieldEmbedding

SequencePooling = Literal["mean", "none"]


def num_inputs(layout: FieldLayout, pooling: SequencePooling) -> int:
    """Vectors that `input_vectors` gives per row."""
    return layout.num_fields + (pooling == "mean")


def input_vectors(embedding: FieldEmbedding, batch: Batch, pooling: SequencePooling) -> Tensor:
    """[B, inputs, D]: the fields in order; with pooling `mean` the mean of the behaviours' item vectors is the last."""
    fields_BFD = embedding.fields(batch)
    if pooling == "none":
        return fields_BFD
    return torch.cat([fields_BFD, embedding.pooled_history(batch)[:, None]], dim=1)
