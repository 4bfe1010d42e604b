"""Ids of fields -> rows of the field's part of the embedding table."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msr_models.data.layout import FieldLayout


class IdRows(nn.Module):
    """Field f's ids [...] -> rows 0 .. num_rows[f] - 1 of the field, of the ids' type; 0 for ids without a row.

    Without a row are evicted ids, and those of a newer vocabulary than the layout's.
    """

    def __init__(self, layout: FieldLayout) -> None:
        super().__init__()
        self.num_rows = layout.num_rows
        self.mapped = tuple(f for f in range(layout.num_fields) if not layout.has_all_ids(f))
        for f in self.mapped:
            rows = torch.from_numpy(layout.row_of_id(f)).int()
            self.register_buffer(f"row_of_id_{f}", rows, persistent=False)

    def forward(self, ids: Tensor, f: int) -> Tensor:
        if f not in self.mapped:
            return torch.where(ids < self.num_rows[f], ids, 0)
        row_of_id = self.get_buffer(f"row_of_id_{f}")
        known = torch.where(ids < len(row_of_id), ids, 0)
        return row_of_id.index_select(0, known.flatten()).view_as(ids).to(ids.dtype)
