"""The input layer of models: one vector per field, and one more for the behaviours."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.modules.embedding import FieldEmbedding
from msr_models.modules.mixed_embedding import make_vectors
from msr_models.modules.target_attention import TargetAttention
from schemas.errors import TrainingError

SequencePooling = Literal["mean", "din", "din_mean", "none"]


class InputLayer(nn.Module):
    """[B, inputs, D]: the vectors of the fields in order, those of dense values, then one vector of the behaviours.

    pooling: `mean` of the behaviours' vectors; `din`, their sum weighted by target attention with the row's item as
    query, composed of item and attributes as a behaviour is; `din_mean`, that sum over the number of behaviours;
    `none`, fields only. Raises TrainingError for target attention on a data set without behaviours.
    """

    def __init__(self, layout: FieldLayout, width: int, pooling: SequencePooling, generator: torch.Generator) -> None:
        super().__init__()
        attends = pooling in ("din", "din_mean")
        if attends:
            require_behaviours(layout, f"sequence_pooling {pooling!r}")
        self.pooling = pooling
        self.embedding = make_vectors(layout, width, generator)
        self.attention = TargetAttention(width, generator, is_mean=pooling == "din_mean") if attends else None
        self.num_vectors = layout.num_vectors + (pooling != "none")
        self.width = width

    @property
    def table(self) -> FieldEmbedding:
        """The one table of vectors of width 1: no field's embedding_dim is below it."""
        assert isinstance(self.embedding, FieldEmbedding)
        return self.embedding

    @property
    def total_width(self) -> int:
        """E, the width of the concatenated vectors."""
        return self.num_vectors * self.width

    def forward(self, batch: Batch) -> Tensor:
        """[B, inputs, D]."""
        fields_BFD = self.embedding.fields(batch)
        if self.pooling == "none":
            return fields_BFD
        return torch.cat([fields_BFD, self._behaviours(batch, fields_BFD)[:, None]], dim=1)

    def concatenated(self, batch: Batch) -> Tensor:
        """All vectors of a row side by side, e_BE."""
        e_BE: Tensor = self(batch).flatten(1)
        return e_BE

    def terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(rows of the table, factors), [B, J] each: the sum of factor * vector over J is that of a row's vectors.

        Not for pooling `din`, whose factors depend on the vectors.
        """
        assert self.attention is None
        return self.table.terms(batch, with_behaviours=self.pooling == "mean")

    def _behaviours(self, batch: Batch, fields_BFD: Tensor) -> Tensor:
        if self.attention is None:
            return self.embedding.pooled_history(batch)
        table = self.embedding
        item_BD = table.target(fields_BFD, table.target_parts(batch))
        pooled_BD: Tensor = self.attention(item_BD, table.history(batch), table.history_mask(batch))
        return pooled_BD


def require_behaviours(layout: FieldLayout, what: str) -> None:
    """Raise TrainingError if the data set has no behaviours; what: the model or option that needs them."""
    if layout.hist_length == 0:
        raise TrainingError(
            f"{what} needs behaviour sequences, and this data set keeps none (sequence.max_length is 0); take a model "
            "with sequence_pooling mean or none, or set max_length in the data set's YAML and rebuild its features"
        )
