"""FieldEmbedding: one table for all fields, with field offsets."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.modules.id_rows import IdRows

# Small whatever the number of ids: a vector of noise that an id has before its first rows must not count
INITIAL_STD = 0.01


class FieldEmbedding(nn.Module):
    """Slot ids [B, S] -> one vector of width D per field, in field order.

    Id 0 of a single-valued field is a trainable out-of-vocabulary row. In a multi-valued field it is padding, which no
    mean counts (the mean of nothing is zeros). A behaviour is the sum of the vectors of its known parts (item and
    attributes, ids above 0), each from its own field's rows; one without a known part is padding. Ids without a row
    (evicted, or of a newer vocabulary than the model's) count as 0. Initial weights: N(0, INITIAL_STD²).
    row_gradient, set by the trainer's optimiser: the gradient is a sparse tensor of the rows that were looked up
    (padding may count as id 0) instead of a tensor of the table's size. columns_are_scenarios: an optimiser leaves
    columns of a row without a gradient alone.
    """

    slot_row_start_S: Tensor
    slot_num_rows_S: Tensor
    part_row_start_A: Tensor

    def __init__(self, layout: FieldLayout, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layout = layout
        self.width = width
        self.row_gradient = False
        self.columns_are_scenarios = False
        self.weight = nn.Parameter(torch.empty(layout.total_rows, width))
        nn.init.normal_(self.weight, std=INITIAL_STD, generator=generator)
        self.id_rows = IdRows(layout)
        slots = torch.tensor(layout.num_slots)
        self.register_buffer(
            "slot_row_start_S",
            torch.tensor(layout.row_starts, dtype=torch.int32).repeat_interleave(slots),
            persistent=False,
        )
        self.register_buffer(
            "slot_num_rows_S",
            torch.tensor(layout.num_rows, dtype=torch.int32).repeat_interleave(slots),
            persistent=False,
        )
        part_starts = [layout.row_starts[f] for f in layout.behaviour_fields]
        self.register_buffer("part_row_start_A", torch.tensor(part_starts, dtype=torch.int32), persistent=False)

    def fields(self, batch: Batch) -> Tensor:
        """[B, F, D]."""
        ids_BS = self._slot_rows(batch.slot_ids_BS)
        e_BSD = self._look_up(ids_BS + self.slot_row_start_S)
        if self.layout.total_slots == self.layout.num_fields:
            return e_BSD
        parts: list[Tensor] = []
        for start, slots in _runs(self.layout):
            part_BSD = e_BSD[:, start : start + slots]
            is_multi = self.layout.num_slots[self.layout.slot_starts.index(start)] > 1
            parts.append(masked_mean(part_BSD, ids_BS[:, start : start + slots] > 0)[:, None] if is_multi else part_BSD)
        return torch.cat(parts, dim=1)

    def history(self, batch: Batch) -> Tensor:
        """Vectors of the behaviours, [B, L, D]; undefined where `history_mask` is False."""
        ids_BLA = self._history_ids(batch)
        if len(self.layout.behaviour_fields) == 1:
            return self._look_up(ids_BLA.squeeze(2) + self.layout.row_starts[self.layout.item_field])
        return (self._look_up(ids_BLA + self.part_row_start_A) * (ids_BLA > 0)[..., None]).sum(2)

    def history_mask(self, batch: Batch) -> Tensor:
        """[B, L] bool: False where no part of the behaviour is known, as in padding."""
        known_BLA = self._history_ids(batch) > 0
        return known_BLA.squeeze(2) if known_BLA.shape[2] == 1 else known_BLA.any(2)

    def pooled_history(self, batch: Batch) -> Tensor:
        """Mean of the behaviours' vectors, [B, D]; zeros where the layout keeps none."""
        if self.layout.hist_length == 0:
            return self.weight.new_zeros(len(batch), self.width)
        if self.weight.device.type != "cpu":
            return masked_mean(self.history(batch), self.history_mask(batch))
        # The same in one pass, without [B, L, D]; on a GPU its gradient would wait for the number of real behaviours
        if len(self.layout.behaviour_fields) == 1:
            padding = self.layout.row_starts[self.layout.item_field]
            rows_BL = (self._history_ids(batch).squeeze(2) + padding).long()
            return F.embedding_bag(rows_BL, self.weight, mode="mean", padding_idx=padding, sparse=self.row_gradient)
        # Several padding rows: weights leave them out, which is also several times as fast as padding_idx
        rows_BN, share_BN = self._history_terms(batch)
        share_BN = share_BN.to(self.weight.dtype)  # a selector scores in float64
        return F.embedding_bag(rows_BN, self.weight, mode="sum", per_sample_weights=share_BN, sparse=self.row_gradient)

    def pooled_history_by_scenario(self, batch: Batch, num_scenarios: int) -> Tensor:
        """Mean of the behaviours that happened in each scenario, [B, K, D]; zeros where none did."""
        scenarios_K = torch.arange(num_scenarios, device=batch.hist_scenario_BL.device)
        is_in_BKL = (batch.hist_scenario_BL[:, None] == scenarios_K[:, None]) & self.history_mask(batch)[:, None]
        share_BKL = is_in_BKL / is_in_BKL.sum(2, keepdim=True).clamp(min=1)
        return torch.bmm(share_BKL.to(self.weight.dtype), self.history(batch))

    def history_in_scenario(self, batch: Batch, row_V: Tensor, scenario_V: Tensor, num_scenarios: int) -> Tensor:
        """Mean of the behaviours of row row_V[v] that happened in scenario_V[v], [V, D]; zeros where none did."""
        if self.weight.device.type != "cpu":
            pooled_BKD = self.pooled_history_by_scenario(batch, num_scenarios)
            return pooled_BKD.flatten(0, 1).index_select(0, row_V * num_scenarios + scenario_V)
        # The same from those behaviours alone, on average one K-th; on a GPU their number would have to be waited for
        ids_VLA = self._history_ids(batch).index_select(0, row_V)
        is_in_VL = batch.hist_scenario_BL.index_select(0, row_V) == scenario_V[:, None]
        keep_VLA = (ids_VLA > 0) & is_in_VL[..., None]
        rows_N = (ids_VLA + self.part_row_start_A)[keep_VLA].long()
        parts_V = keep_VLA.sum((1, 2))
        sums_VD = F.embedding_bag(
            rows_N, self.weight, parts_V.cumsum(0) - parts_V, mode="sum", sparse=self.row_gradient
        )
        return sums_VD / keep_VLA.any(2).sum(1).clamp(min=1)[:, None]

    def target(self, vectors_RFD: Tensor, parts_RA: Tensor) -> Tensor:
        """What a behaviour with the row's own item would be, [R, D]: the sum of the row's `target_parts`.

        vectors_RFD: the fields' vectors, as they are or after a model's layers.
        """
        fields = self.layout.behaviour_fields
        if len(fields) == 1:
            return vectors_RFD[:, fields[0]]
        vectors_RAD = torch.stack([vectors_RFD[:, f] for f in fields], dim=1)
        return (vectors_RAD * parts_RA[..., None]).sum(1)

    def target_parts(self, batch: Batch) -> Tensor:
        """[B, A] bool: the known parts of the row's own item; all of them where none is known."""
        slots = [self.layout.slot_starts[f] for f in self.layout.behaviour_fields]
        ids_BA = torch.stack([batch.slot_ids_BS[:, slot] for slot in slots], dim=1)
        is_known_BA = self._part_rows(ids_BA) > 0
        return is_known_BA | ~is_known_BA.any(1, keepdim=True)

    def terms(self, batch: Batch, *, with_behaviours: bool) -> tuple[Tensor, Tensor]:
        """(rows int64, factors fp32), [B, J] each: their products with the rows' vectors sum up to those of `fields`.

        with_behaviours: and `pooled_history`. Padding has the factor 0.
        """
        ids_BS = self._slot_rows(batch.slot_ids_BS)
        rows, weights = [(ids_BS + self.slot_row_start_S).long()], [torch.ones(ids_BS.shape, device=ids_BS.device)]
        for start, slots in zip(self.layout.slot_starts, self.layout.num_slots, strict=True):
            if slots > 1:
                weights[0][:, start : start + slots] = _mean_weights(ids_BS[:, start : start + slots] > 0)
        if with_behaviours and self.layout.hist_length:
            rows_BN, share_BN = self._history_terms(batch)
            rows.append(rows_BN)
            weights.append(share_BN)
        return torch.cat(rows, dim=1), torch.cat(weights, dim=1)

    def _look_up(self, rows: Tensor) -> Tensor:
        if not self.row_gradient:
            return F.embedding(rows, self.weight)
        vectors: Tensor = _LookUp.apply(self.weight, rows.long())  # type: ignore[no-untyped-call]  # untyped in torch
        return vectors

    def _slot_rows(self, ids_BS: Tensor) -> Tensor:
        """Rows within each slot's field."""
        rows_BS = torch.where(ids_BS < self.slot_num_rows_S, ids_BS, 0)
        for f in self.id_rows.mapped:
            start = self.layout.slot_starts[f]
            slots = slice(start, start + self.layout.num_slots[f])
            rows_BS[:, slots] = self.id_rows(ids_BS[:, slots], f)
        return rows_BS

    def _history_terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(rows of the table int64, factors fp32), [B, L * A] each, of the mean of the behaviours' vectors."""
        ids_BLA = self._history_ids(batch)
        known_BLA = ids_BLA > 0
        share_BLA = known_BLA / known_BLA.any(2).sum(1).clamp(min=1)[:, None, None]
        return (ids_BLA + self.part_row_start_A).flatten(1).long(), share_BLA.flatten(1)

    def _history_ids(self, batch: Batch) -> Tensor:
        """[B, L, A]: rows of the behaviours' parts within their fields, 0 where unknown."""
        return self._part_rows(batch.hist_ids_BLA)

    def _part_rows(self, ids: Tensor) -> Tensor:
        """Ids of a behaviour's parts [..., A] -> rows within their fields."""
        fields = self.layout.behaviour_fields
        if ids.shape[-1] != len(fields):
            raise ValueError(f"behaviours have {ids.shape[-1]} parts, the model reads {self.layout.behaviour_names}")
        if len(fields) == 1:
            rows: Tensor = self.id_rows(ids, fields[0])
            return rows
        return torch.stack([self.id_rows(ids[..., a], f) for a, f in enumerate(fields)], dim=-1)


class _LookUp(torch.autograd.Function):
    """weight[rows] whose gradient is a sparse tensor of the rows looked up."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = weight.shape
        return narrow_rows(weight, rows.flatten()).view(*rows.shape, weight.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        shape: torch.Size = ctx.shape
        values_ND = gradients[0].reshape(-1, shape[1])
        # As PyTorch's own sparse look-up does: the public constructor warns that indices are not checked
        found: Tensor = torch.ops.aten._sparse_coo_tensor_unsafe(rows.flatten()[None], values_ND, shape)
        return found, None


def narrow_rows(table_RD: Tensor, rows_N: Tensor) -> Tensor:
    """table_RD[rows_N], [N, D], for short rows.

    On a GPU `index_select` starts a block per row: for rows of 64 bytes a gather by element takes a quarter of its time
    (with a contiguous index; with an expanded one PyTorch starts the same blocks).
    """
    if table_RD.device.type == "cpu":
        return table_RD.index_select(0, rows_N)
    return table_RD.gather(0, rows_N[:, None].expand(-1, table_RD.shape[1]).contiguous())


def masked_mean(x_BLD: Tensor, keep_BL: Tensor) -> Tensor:
    """Mean over the kept places of L, [B, D]; zeros where none is kept."""
    keep = keep_BL.to(x_BLD.dtype)
    total_BD = torch.einsum("bld,bl->bd", x_BLD, keep)
    return total_BD / keep.sum(1, keepdim=True).clamp(min=1)


def _mean_weights(keep_BL: Tensor) -> Tensor:
    """1 / number of kept places at each of them, 0 elsewhere."""
    keep = keep_BL.float()
    return keep / keep.sum(1, keepdim=True).clamp(min=1)


def _runs(layout: FieldLayout) -> list[tuple[int, int]]:
    """(first slot, slots): each multi-valued field by itself, neighbouring single-valued fields together."""
    runs: list[tuple[int, int]] = []
    single = False
    for start, slots in zip(layout.slot_starts, layout.num_slots, strict=True):
        if slots == 1 and single:
            first, length = runs[-1]
            runs[-1] = (first, length + 1)
        else:
            runs.append((start, slots))
        single = slots == 1
    return runs
