"""Behaviours and targets by hand, id by id, as the equations have them."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.modules.field_vectors import FieldVectors
from tests.support.batches import LAYOUT, WITH_ATTRIBUTE, random_batch


def batch_with_gaps(rows: int, num_scenarios: int = 3, share: float = 0.0) -> Batch:
    """Behaviours with both parts, with either, with none; ids of a newer vocabulary; row 0 has none."""
    batch = random_batch(rows, num_scenarios, layout=WITH_ATTRIBUTE, share=share)
    ids_BLA = batch.hist_ids_BLA.clone()
    ids_BLA[torch.rand(ids_BLA.shape, generator=torch.Generator().manual_seed(7)) < 0.4] = 0
    ids_BLA[0], ids_BLA[1, 0, 0], ids_BLA[1, 1, 1] = 0, LAYOUT.num_rows[1], LAYOUT.num_rows[3]
    item_BL, price_BL = (ids_BLA > 0).unbind(2)
    assert (item_BL & price_BL).any() and (item_BL & ~price_BL).any() and (~item_BL & price_BL).any()
    return dataclasses.replace(batch, hist_ids_BLA=ids_BLA)


def behaviours_in_scenario(embedding: FieldVectors, batch: Batch, row: int, k: int) -> list[Tensor]:
    """Vectors of the row's behaviours of scenario k that have a known part, oldest first."""
    happened_L = batch.hist_scenario_BL[row]
    ids_BLA = torch.where((happened_L == k)[:, None], batch.hist_ids_BLA, 0)
    return behaviours_of_row(embedding, dataclasses.replace(batch, hist_ids_BLA=ids_BLA), row)


def behaviours_of_row(embedding: FieldVectors, batch: Batch, row: int) -> list[Tensor]:
    """Vectors of the row's behaviours that have a known part, oldest first."""
    layout, found = embedding.layout, []
    for ids in batch.hist_ids_BLA[row].tolist():
        fields = zip(layout.behaviour_fields, ids, strict=True)
        parts = [embedding.vectors_of(f)[i] for f, i in fields if 0 < i < layout.num_rows[f]]
        if parts:
            found.append(torch.stack(parts).sum(0))
    return found


def target_of_row(embedding: FieldVectors, batch: Batch, row: int, vectors_FD: Tensor) -> Tensor:
    """The sum of the row's own item and attributes among its fields' vectors: known ones, all where none is."""
    layout = embedding.layout
    ids = {f: int(batch.slot_ids_BS[row, layout.slot_starts[f]]) for f in layout.behaviour_fields}
    known = [f for f, i in ids.items() if i > 0] or list(ids)
    return torch.stack([vectors_FD[f] for f in known]).sum(0)
