"""FieldEmbedding: one table for all fields, with field offsets."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.modules.field_vectors import INITIAL_STD, FieldVectors


class FieldEmbedding(FieldVectors):
    """Slot ids [B, S] -> one vector of width D per field, in field order.

    Id 0 of a single-valued field is a trainable out-of-vocabulary row. In a multi-valued field it is padding, which no
    mean counts (the mean of nothing is zeros). Ids without a row (evicted, or of a newer vocabulary than the model's)
    count as 0. All fields have rows of width D, whatever the layout's embedding_dims (see MixedEmbedding). Initial
    weights: N(0, INITIAL_STD²).
    row_gradient, set by the trainer's optimiser: the gradient is a sparse tensor of the rows that were looked up
    (padding may count as id 0) instead of a tensor of the table's size. columns_are_scenarios: an optimiser leaves
    columns of a row without a gradient alone.
    """

    slot_row_start_S: Tensor
    slot_num_rows_S: Tensor
    part_row_start_A: Tensor

    def __init__(self, layout: FieldLayout, width: int, generator: torch.Generator) -> None:
        super().__init__(layout, width)
        self.row_gradient = False
        self.columns_are_scenarios = False
        self.weight = nn.Parameter(torch.empty(layout.total_rows, width))
        nn.init.normal_(self.weight, std=INITIAL_STD, generator=generator)
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
        self.make_dense(generator)

    def of_slots(self, slot_ids_BS: Tensor) -> Tensor:
        ids_BS = self._slot_rows(slot_ids_BS)
        e_BSD = self.look_up(ids_BS + self.slot_row_start_S)
        if self.layout.total_slots == self.layout.num_fields:
            return e_BSD
        parts: list[Tensor] = []
        for start, slots in _runs(self.layout):
            part_BSD = e_BSD[:, start : start + slots]
            is_multi = self.layout.num_slots[self.layout.slot_starts.index(start)] > 1
            parts.append(masked_mean(part_BSD, ids_BS[:, start : start + slots] > 0)[:, None] if is_multi else part_BSD)
        return torch.cat(parts, dim=1)

    def history(self, batch: Batch) -> Tensor:
        ids_BLA = self._history_ids(batch)
        if len(self.layout.behaviour_fields) == 1:
            return self.look_up(ids_BLA.squeeze(2) + self.layout.row_starts[self.layout.item_field])
        return (self.look_up(ids_BLA + self.part_row_start_A) * (ids_BLA > 0)[..., None]).sum(2)

    def pooled_history(self, batch: Batch) -> Tensor:
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
        return self.weighted_sum(*self._history_terms(batch))

    def weighted_sum(self, rows_BN: Tensor, factor_BN: Tensor) -> Tensor:
        """Σ_n factor * row of the table, [B, D]; rows int64. Terms with the factor 0 add nothing."""
        factor_BN = factor_BN.to(self.weight.dtype)  # a selector scores in float64
        if self.weight.device.type != "cpu":  # the gradient of a bag would wait there
            return torch.bmm(factor_BN[:, None], self.look_up(rows_BN)).squeeze(1)
        return F.embedding_bag(rows_BN, self.weight, mode="sum", per_sample_weights=factor_BN, sparse=self.row_gradient)

    def vectors_of(self, f: int) -> Tensor:
        start = self.layout.row_starts[f]
        return self.weight[start : start + self.layout.num_rows[f]]

    def history_in_scenario(self, batch: Batch, row_V: Tensor, scenario_V: Tensor, num_scenarios: int) -> Tensor:
        if self.weight.device.type != "cpu":
            return super().history_in_scenario(batch, row_V, scenario_V, num_scenarios)
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

    def terms(self, batch: Batch, *, with_behaviours: bool) -> tuple[Tensor, Tensor]:
        """(rows int64, factors fp32), [B, J] each: their products with the rows' vectors sum up to those of `fields`.

        with_behaviours: and `pooled_history`. Padding has the factor 0. Rows behind the table's are those of dense_ZD.
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
        if batch.dense_BZ is not None and self.dense_ZD is not None:
            behind_Z = torch.arange(len(self.dense_ZD), device=ids_BS.device) + self.layout.total_rows
            rows.append(behind_Z.expand_as(batch.dense_BZ))
            weights.append(batch.dense_BZ)
        return torch.cat(rows, dim=1), torch.cat(weights, dim=1)

    def rows_of_terms(self) -> Tensor:
        """What the rows of `terms` name: the table, and dense_ZD behind it; a copy where there are dense values."""
        return self.weight if self.dense_ZD is None else torch.cat([self.weight, self.dense_ZD])

    @torch.no_grad()
    def adopt(self, rows_RD: Tensor) -> None:
        """Take over the rows that `rows_of_terms` gives."""
        self.weight.copy_(rows_RD[: len(self.weight)])
        if self.dense_ZD is not None:
            self.dense_ZD.copy_(rows_RD[len(self.weight) :])

    def look_up(self, rows: Tensor) -> Tensor:
        """Rows of the table [...] -> [..., D]."""
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
        return (ids_BLA + self.part_row_start_A).flatten(1).long(), self._history_shares(ids_BLA).flatten(1)


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
