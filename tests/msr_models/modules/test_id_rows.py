"""Ids -> rows of an embedding table that has rows only for the ids that are in use."""

from __future__ import annotations

from dataclasses import replace

import torch

from msr_models.data.layout import FieldLayout
from msr_models.modules.embedding import FieldEmbedding
from msr_models.modules.id_rows import IdRows
from tests.support.batches import LAYOUT, random_batch

# Field 1 has ids 2, 3 and 7 only
EVICTING = replace(
    LAYOUT, num_rows=(LAYOUT.num_rows[0], 4, *LAYOUT.num_rows[2:]), live=((), ((2, 4), (7, 8)), *((),) * 2)
)


def test_evicted_and_newer_ids_have_row_0() -> None:
    rows = IdRows(EVICTING)
    ids = torch.tensor([[0, 1, 2, 3], [6, 7, 8, 900]], dtype=torch.int32)
    assert rows(ids, 1).tolist() == [[0, 0, 1, 2], [0, 3, 0, 0]] and rows(ids, 1).dtype == torch.int32
    assert rows(ids, 0).tolist() == torch.where(ids < LAYOUT.num_rows[0], ids, 0).tolist()


def test_a_layout_survives_json() -> None:
    assert FieldLayout.from_dict(EVICTING.to_dict()) == EVICTING
    assert "live" not in LAYOUT.to_dict(), "cards of other data sets do not change"


def test_an_embedding_looks_up_the_rows_of_ids() -> None:
    embedding = FieldEmbedding(EVICTING, 4, torch.Generator().manual_seed(1))
    batch = random_batch(5, 2)
    slot = EVICTING.slot_starts[1]
    assert EVICTING.num_slots[1] == 1
    batch.slot_ids_BS[:, slot] = torch.tensor([0, 1, 3, 7, 50], dtype=torch.int32)
    start = EVICTING.row_starts[1]
    expected = embedding.weight[start + torch.tensor([0, 0, 2, 3, 0])]
    assert torch.equal(embedding.fields(batch)[:, 1], expected)
    assert embedding.weight.shape[0] == EVICTING.total_rows and "id_rows" not in " ".join(embedding.state_dict())
