"""One table, its offsets, id 0, padding and ids that the table does not know."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.modules.embedding import FieldEmbedding
from tests.support.batches import LAYOUT, random_batch


def make() -> FieldEmbedding:
    return FieldEmbedding(LAYOUT, 4, torch.Generator().manual_seed(0))


def test_every_field_reads_its_own_rows_and_tags_are_the_mean_of_real_values() -> None:
    embedding, batch = make(), random_batch(20, 3)
    e_BFD = embedding.fields(batch)
    assert e_BFD.shape == (20, 4, 4)
    user0, item0, tags0, price0 = LAYOUT.row_starts
    ids = batch.slot_ids_BS.long()
    torch.testing.assert_close(e_BFD[:, 0], embedding.weight[ids[:, 0] + user0])
    torch.testing.assert_close(e_BFD[:, 1], embedding.weight[ids[:, 1] + item0])
    torch.testing.assert_close(e_BFD[:, 3], embedding.weight[ids[:, 5] + price0])
    for row in range(20):
        real = [i for i in ids[row, 2:5].tolist() if i > 0]
        want = torch.stack([embedding.weight[i + tags0] for i in real]).mean(0) if real else torch.zeros(4)
        torch.testing.assert_close(e_BFD[row, 2], want)


def test_out_of_vocabulary_is_a_trainable_row_but_padding_is_not() -> None:
    embedding, batch = make(), random_batch(8, 3)
    batch = dataclasses.replace(
        batch,
        slot_ids_BS=torch.zeros_like(batch.slot_ids_BS),
        hist_item_ids_BL=torch.zeros_like(batch.hist_item_ids_BL),
    )
    (embedding.fields(batch).sum() + embedding.pooled_history(batch).sum()).backward()
    assert embedding.weight.grad is not None
    touched = embedding.weight.grad.abs().sum(1).nonzero().squeeze(1).tolist()
    user0, item0, _, price0 = LAYOUT.row_starts
    assert touched == [user0, item0, price0]


def test_history_uses_the_item_rows_and_leaves_padding_out() -> None:
    embedding, batch = make(), random_batch(3, 3)
    history = torch.tensor([[0, 0, 0, 0, 3, 5], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.int32)
    pooled = embedding.pooled_history(dataclasses.replace(batch, hist_item_ids_BL=history))
    items = embedding.weight[LAYOUT.row_starts[1] :]
    torch.testing.assert_close(pooled, torch.stack([(items[3] + items[5]) / 2, torch.zeros(4), items[1]]))


def test_ids_of_a_newer_vocabulary_count_as_unknown_and_never_reach_another_fields_rows() -> None:
    embedding, batch = make(), random_batch(4, 3)
    newer = batch.slot_ids_BS.clone()
    newer[:, 0] = LAYOUT.num_rows[0]
    newer[:, 2] = 10_000
    history = torch.full_like(batch.hist_item_ids_BL, LAYOUT.num_rows[1])
    known = newer.clone()
    known[:, [0, 2]] = 0
    got = embedding.fields(dataclasses.replace(batch, slot_ids_BS=newer))
    assert torch.equal(got, embedding.fields(dataclasses.replace(batch, slot_ids_BS=known)))
    assert embedding.pooled_history(dataclasses.replace(batch, hist_item_ids_BL=history)).abs().max() == 0


def test_a_layout_without_behaviours_pools_to_zeros() -> None:
    layout, batch = dataclasses.replace(LAYOUT, hist_length=0), random_batch(3, 2)
    embedding = FieldEmbedding(layout, 4, torch.Generator())
    none = dataclasses.replace(batch, hist_item_ids_BL=torch.zeros(3, 0, dtype=torch.int32))
    assert torch.equal(embedding.pooled_history(none), torch.zeros(3, 4))


@pytest.mark.parametrize("row_gradient", [False, True])
def test_ids_above_2_24_stay_apart_in_every_look_up(row_gradient: bool) -> None:
    first = 2**24  # float32 cannot tell it from the next
    layout = FieldLayout(names=("user", "item"), num_slots=(1, 1), num_rows=(3, first + 4), item_field=1, hist_length=4)
    embedding = FieldEmbedding(layout, 1, torch.Generator().manual_seed(0))
    embedding.row_gradient = row_gradient
    items = torch.arange(first, first + 4, dtype=torch.int32)
    batch = Batch(
        slot_ids_BS=torch.stack([torch.zeros(4, dtype=torch.int32), items], dim=1),
        hist_item_ids_BL=torch.diag(items),
        scenario_B=torch.zeros(4, dtype=torch.int64),
        label_B=torch.zeros(4),
        shared_B=torch.zeros(4, dtype=torch.bool),
    )
    want_41 = embedding.weight.detach()[-4:].clone()
    assert len(want_41.unique()) == 4
    assert torch.equal(embedding.fields(batch)[:, 1], want_41)
    assert torch.equal(embedding.history(batch)[torch.arange(4), torch.arange(4)], want_41)
    assert torch.equal(embedding.pooled_history(batch), want_41)
    for look_up in (lambda: embedding.fields(batch)[:, 1], lambda: embedding.pooled_history(batch)):
        (gradient,) = torch.autograd.grad(
            (look_up()[:, 0] * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum(), embedding.weight
        )
        tail = gradient.to_dense()[-4:, 0] if gradient.is_sparse else gradient[-4:, 0]
        assert tail.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_a_layout_survives_json() -> None:
    assert FieldLayout.from_dict(json.loads(json.dumps(LAYOUT.to_dict()))) == LAYOUT
