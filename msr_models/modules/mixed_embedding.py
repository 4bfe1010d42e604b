"""Embeddings of fields whose rows are narrower than a model's vectors: a table per width, and projections."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.modules.embedding import FieldEmbedding
from msr_models.modules.field_vectors import FieldVectors


def make_vectors(layout: FieldLayout, width: int, generator: torch.Generator) -> FieldVectors:
    """One table where all fields have rows of width D, else a MixedEmbedding."""
    if set(layout.widths(width)) == {width}:
        return FieldEmbedding(layout, width, generator)
    return MixedEmbedding(layout, width, generator)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a field's rows lie: in the table of this width, as its field `member`, from row `start` on."""

    width: int
    member: int
    start: int


class MixedEmbedding(FieldVectors):
    """v_f = P_f e_f (Ginart et al. 2019, mixed dimension embeddings): rows e_f of the field's own width d_f, a matrix
    P_f [d_f, D] per field with d_f < D, and none where d_f = D.

    Fields of one width share a FieldEmbedding, `tables.<width>`; P_f is `projection_<field>`. A projection has no bias,
    so that a mean of projected vectors is the projected mean, and padding stays zeros. Initial P_f: N(0, 1/d_f), so
    that a vector starts with the spread of the other fields'. Products are in full precision, as look-ups are.
    """

    def __init__(self, layout: FieldLayout, width: int, generator: torch.Generator) -> None:
        super().__init__(layout, width)
        widths = layout.widths(width)
        self.members = {own: [f for f, w in enumerate(widths) if w == own] for own in sorted(set(widths))}
        self.tables = nn.ModuleDict()
        self.places: dict[int, _Place] = {}
        for own, fields in self.members.items():
            part = layout.table_of(fields)
            self.tables[str(own)] = FieldEmbedding(part, own, generator)
            self.places |= {f: _Place(own, i, part.row_starts[i]) for i, f in enumerate(fields)}
            slots = [layout.slot_starts[f] + n for f in fields for n in range(layout.num_slots[f])]
            self.register_buffer(f"slots_{own}", torch.tensor(slots), persistent=False)
        for f, own in enumerate(widths):
            if own < width:
                matrix = torch.empty(own, width).normal_(std=1.0 / math.sqrt(own), generator=generator)
                self.register_parameter(f"projection_{layout.names[f]}", nn.Parameter(matrix))
        order = [f for fields in self.members.values() for f in fields]
        self.register_buffer("order_F", torch.tensor(order).argsort(), persistent=False)
        self.make_dense(generator)

    def of_slots(self, slot_ids_BS: Tensor) -> Tensor:
        vectors = []
        for own, fields in self.members.items():
            own_ids_BS = slot_ids_BS.index_select(1, self.get_buffer(f"slots_{own}"))
            e_BFW = self._table(own).of_slots(own_ids_BS)
            if own < self.width:
                projections_FWD = torch.stack([self._projection(f) for f in fields])
                with torch.autocast(e_BFW.device.type, enabled=False):
                    # A mean over values may be of lower precision
                    e_FBW = e_BFW.transpose(0, 1).to(projections_FWD.dtype)
                    e_BFW = torch.bmm(e_FBW, projections_FWD).transpose(0, 1)
            vectors.append(e_BFW)
        return torch.cat(vectors, dim=1).index_select(1, self.get_buffer("order_F"))

    def history(self, batch: Batch) -> Tensor:
        ids_BLA = self._history_ids(batch)
        parts = []
        for a, f in enumerate(self.layout.behaviour_fields):
            place, ids_BL = self.places[f], ids_BLA[..., a]
            e_BLW = self._table(place.width).look_up(ids_BL + place.start) * (ids_BL > 0)[..., None]
            parts.append(self._projected(e_BLW, f))
        return torch.stack(parts).sum(0)

    def pooled_history(self, batch: Batch) -> Tensor:
        if self.layout.hist_length == 0:
            return next(self.parameters()).new_zeros(len(batch), self.width)
        ids_BLA = self._history_ids(batch)
        share_BLA = self._history_shares(ids_BLA)
        parts = []
        for a, f in enumerate(self.layout.behaviour_fields):
            place = self.places[f]
            rows_BL = (ids_BLA[..., a] + place.start).long()
            parts.append(self._projected(self._table(place.width).weighted_sum(rows_BL, share_BLA[..., a]), f))
        return torch.stack(parts).sum(0)

    def vectors_of(self, f: int) -> Tensor:
        place = self.places[f]
        return self._projected(self._table(place.width).vectors_of(place.member), f)

    def _table(self, width: int) -> FieldEmbedding:
        table = self.tables[str(width)]
        assert isinstance(table, FieldEmbedding)
        return table

    def _projection(self, f: int) -> Tensor:
        return self.get_parameter(f"projection_{self.layout.names[f]}")

    def _projected(self, e: Tensor, f: int) -> Tensor:
        """Rows of field f [..., d_f] -> [..., D]."""
        if self.places[f].width == self.width:
            return e
        with torch.autocast(e.device.type, enabled=False):
            projection_WD = self._projection(f)
            return e.to(projection_WD.dtype) @ projection_WD
