"""One table, its offsets, id 0, padding and ids that the table does not know."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.modules.embedding import FieldEmbedding
from tests.support.batches import LAYOUT, WITH_ATTRIBUTE, random_batch, take
from tests.support.behaviours import batch_with_gaps, behaviours_in_scenario, behaviours_of_row, target_of_row


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
        hist_ids_BLA=torch.zeros_like(batch.hist_ids_BLA),
    )
    (embedding.fields(batch).sum() + embedding.pooled_history(batch).sum()).backward()
    assert embedding.weight.grad is not None
    touched = embedding.weight.grad.abs().sum(1).nonzero().squeeze(1).tolist()
    user0, item0, _, price0 = LAYOUT.row_starts
    assert touched == [user0, item0, price0]


def test_history_uses_the_item_rows_and_leaves_padding_out() -> None:
    embedding, batch = make(), random_batch(3, 3)
    history = torch.tensor([[0, 0, 0, 0, 3, 5], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.int32)
    pooled = embedding.pooled_history(dataclasses.replace(batch, hist_ids_BLA=history[:, :, None]))
    items = embedding.weight[LAYOUT.row_starts[1] :]
    torch.testing.assert_close(pooled, torch.stack([(items[3] + items[5]) / 2, torch.zeros(4), items[1]]))


@pytest.mark.parametrize("row_gradient", [False, True])
@pytest.mark.parametrize("layout", [LAYOUT, WITH_ATTRIBUTE])
def test_a_behaviour_is_the_sum_of_its_known_parts(layout: FieldLayout, row_gradient: bool) -> None:
    """Vectors, mask, mean and gradients against a plain loop."""
    embedding, batch = FieldEmbedding(layout, 4, torch.Generator().manual_seed(0)), batch_with_gaps(30)
    batch = dataclasses.replace(batch, hist_ids_BLA=batch.hist_ids_BLA[:, :, : len(layout.behaviour_fields)])
    wanted = [behaviours_of_row(embedding, batch, row) for row in range(30)]
    mask_BL = embedding.history_mask(batch)
    assert mask_BL.sum(1).tolist() == [len(vectors) for vectors in wanted] and not wanted[0]
    mean_BD = torch.stack([torch.stack(v).mean(0) if v else torch.zeros(4) for v in wanted])
    flat_ND = torch.stack([vector for vectors in wanted for vector in vectors])
    weight_ND = torch.randn(flat_ND.shape, generator=torch.Generator().manual_seed(1))
    embedding.row_gradient = row_gradient
    for got, want, by in (
        (embedding.history(batch)[mask_BL], flat_ND, weight_ND),
        (embedding.pooled_history(batch), mean_BD, weight_ND[:30]),
    ):
        torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)
        (of_got,) = torch.autograd.grad((got * by).sum(), embedding.weight)
        (of_want,) = torch.autograd.grad((want * by).sum(), embedding.weight, retain_graph=True)
        assert of_got.is_sparse is row_gradient
        torch.testing.assert_close(of_got.to_dense(), of_want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", [LAYOUT, WITH_ATTRIBUTE])
def test_terms_sum_up_to_fields_and_pooled_behaviours(layout: FieldLayout) -> None:
    embedding, batch = FieldEmbedding(layout, 4, torch.Generator().manual_seed(0)), batch_with_gaps(30)
    batch = dataclasses.replace(batch, hist_ids_BLA=batch.hist_ids_BLA[:, :, : len(layout.behaviour_fields)])
    for with_behaviours in (False, True):
        rows_BJ, factors_BJ = embedding.terms(batch, with_behaviours=with_behaviours)
        got_BD = (embedding.weight[rows_BJ] * factors_BJ[:, :, None]).sum(1)
        want_BD = embedding.fields(batch).sum(1) + embedding.pooled_history(batch) * with_behaviours
        torch.testing.assert_close(got_BD, want_BD, atol=1e-6, rtol=1e-5)


def test_behaviours_of_each_scenario_are_pooled_apart() -> None:
    embedding, batch = FieldEmbedding(WITH_ATTRIBUTE, 4, torch.Generator().manual_seed(0)), batch_with_gaps(30)
    row_V, scenario_V = torch.tensor([5, 0, 17, 5, 29]), torch.tensor([0, 1, 1, 2, 2])
    pooled_BKD = embedding.pooled_history_by_scenario(batch, 3)
    of_visits_VD = embedding.history_in_scenario(batch, row_V, scenario_V, 3)
    torch.testing.assert_close(of_visits_VD, pooled_BKD[row_V, scenario_V])
    gradients = [
        torch.autograd.grad((x_VD * torch.arange(4.0)).sum(), embedding.weight, retain_graph=True)[0]
        for x_VD in (of_visits_VD, pooled_BKD[row_V, scenario_V])
    ]
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)
    nothing = embedding.history_in_scenario(batch, torch.tensor([0, 0]), torch.tensor([0, 1]), 3)
    assert torch.equal(nothing, torch.zeros(2, 4))
    assert embedding.history_in_scenario(take(batch, row_V[:0]), row_V[:0], row_V[:0], 3).shape == (0, 4)
    for row, pooled_KD in enumerate(pooled_BKD):
        for k in range(3):
            found = behaviours_in_scenario(embedding, batch, row, k)
            want = torch.stack(found).mean(0) if found else torch.zeros(4)
            torch.testing.assert_close(pooled_KD[k], want)


@pytest.mark.parametrize("layout", [LAYOUT, WITH_ATTRIBUTE])
def test_a_pooled_history_has_the_same_bits_among_other_rows(layout: FieldLayout) -> None:
    """A search's scores rely on it."""
    embedding, batch = FieldEmbedding(layout, 16, torch.Generator().manual_seed(0)), random_batch(300, 3, layout=layout)
    pooled_BD = embedding.pooled_history(batch)
    for rows in (torch.tensor([17]), torch.arange(299, -1, -1), torch.arange(5, 300, 7)):
        assert torch.equal(embedding.pooled_history(take(batch, rows)), pooled_BD[rows])


def test_an_unknown_item_with_a_known_attribute_counts() -> None:
    embedding = FieldEmbedding(WITH_ATTRIBUTE, 4, torch.Generator().manual_seed(0))
    ids_BLA = torch.zeros(1, LAYOUT.hist_length, 2, dtype=torch.int32)
    ids_BLA[0, -1], ids_BLA[0, -2] = torch.tensor([0, 2]), torch.tensor([5, 0])
    batch = dataclasses.replace(random_batch(1, 1), hist_ids_BLA=ids_BLA)
    assert embedding.history_mask(batch).tolist() == [[False] * 4 + [True] * 2]
    price, item = embedding.weight[LAYOUT.row_starts[3] + 2], embedding.weight[LAYOUT.row_starts[1] + 5]
    torch.testing.assert_close(embedding.history(batch)[0, -2:], torch.stack([item, price]))
    torch.testing.assert_close(embedding.pooled_history(batch)[0], (item + price) / 2)


def test_the_target_is_composed_as_a_behaviour_is() -> None:
    embedding = FieldEmbedding(WITH_ATTRIBUTE, 4, torch.Generator().manual_seed(0))
    batch = random_batch(4, 1, layout=WITH_ATTRIBUTE)
    slots_BS = batch.slot_ids_BS.clone()
    slots_BS[:, 1], slots_BS[:, 5] = torch.tensor([3, 0, 3, 0]), torch.tensor([2, 2, 0, 0])
    history = slots_BS[:, None, [1, 5]].expand(4, LAYOUT.hist_length, 2)
    batch = dataclasses.replace(batch, slot_ids_BS=slots_BS, hist_ids_BLA=history)
    fields_BFD, parts_BA = embedding.fields(batch), embedding.target_parts(batch)
    target_BD = embedding.target(fields_BFD, parts_BA)
    torch.testing.assert_close(target_BD[:3], embedding.history(batch)[:3, 0])
    torch.testing.assert_close(target_BD[3], fields_BFD[3, 1] + fields_BFD[3, 3])  # of nothing known: never zeros
    wanted = [target_of_row(embedding, batch, row, fields_BFD[row]) for row in range(4)]
    torch.testing.assert_close(target_BD, torch.stack(wanted))
    alone = FieldEmbedding(LAYOUT, 4, torch.Generator().manual_seed(0))
    assert torch.equal(alone.target(fields_BFD, alone.target_parts(batch)), fields_BFD[:, 1])


@pytest.mark.parametrize("row_gradient", [False, True])
def test_without_attributes_the_numbers_are_those_of_the_items_alone(row_gradient: bool) -> None:
    """Bit by bit what it was before behaviours had attributes, gradients included."""
    embedding, batch = make(), random_batch(200, 3)
    embedding.row_gradient = row_gradient
    rows_BL = batch.hist_ids_BLA[:, :, 0].long() + LAYOUT.row_starts[1]
    mean_BD = torch.nn.functional.embedding_bag(
        rows_BL, embedding.weight, mode="mean", padding_idx=LAYOUT.row_starts[1], sparse=row_gradient
    )
    assert torch.equal(embedding.history_mask(batch), batch.hist_ids_BLA[:, :, 0] > 0)
    for got, want in (
        (embedding.pooled_history(batch), mean_BD),
        (embedding.history(batch), torch.nn.functional.embedding(rows_BL, embedding.weight, sparse=row_gradient)),
    ):
        by = torch.randn(want.shape, generator=torch.Generator().manual_seed(1))
        gradients = [torch.autograd.grad((x * by).sum(), embedding.weight)[0].to_dense() for x in (got, want)]
        assert torch.equal(got, want) and torch.equal(*gradients)


def test_behaviours_of_other_parts_than_the_models_are_refused() -> None:
    with pytest.raises(ValueError, match=r"behaviours have 2 parts, the model reads \('item',\)"):
        make().history(random_batch(3, 2, layout=WITH_ATTRIBUTE))


def test_ids_of_a_newer_vocabulary_count_as_unknown_and_never_reach_another_fields_rows() -> None:
    embedding, batch = make(), random_batch(4, 3)
    newer = batch.slot_ids_BS.clone()
    newer[:, 0] = LAYOUT.num_rows[0]
    newer[:, 2] = 10_000
    history = torch.full((4, LAYOUT.hist_length), LAYOUT.num_rows[1], dtype=torch.int32)
    known = newer.clone()
    known[:, [0, 2]] = 0
    got = embedding.fields(dataclasses.replace(batch, slot_ids_BS=newer))
    assert torch.equal(got, embedding.fields(dataclasses.replace(batch, slot_ids_BS=known)))
    assert embedding.pooled_history(dataclasses.replace(batch, hist_ids_BLA=history[:, :, None])).abs().max() == 0


def test_a_layout_without_behaviours_pools_to_zeros() -> None:
    layout, batch = dataclasses.replace(LAYOUT, hist_length=0), random_batch(3, 2)
    embedding = FieldEmbedding(layout, 4, torch.Generator())
    none = dataclasses.replace(batch, hist_ids_BLA=torch.zeros(3, 0, 1, dtype=torch.int32))
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
        hist_ids_BLA=torch.diag(items)[:, :, None],
        hist_scenario_BL=torch.full((4, 4), -1, dtype=torch.int16),
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
    for layout in (LAYOUT, WITH_ATTRIBUTE):
        assert FieldLayout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout


@pytest.mark.parametrize("layout", [LAYOUT, WITH_ATTRIBUTE])
def test_a_table_in_double_precision_pools_alike(layout: FieldLayout) -> None:
    """Selectors score in it, so that a row's bits do not depend on its neighbours."""
    embedding = FieldEmbedding(layout, 4, torch.Generator().manual_seed(0))
    double, batch = copy.deepcopy(embedding).double(), random_batch(30, 3, layout=layout)
    every = torch.arange(30), torch.zeros(30, dtype=torch.int64)
    for pool in (
        lambda e: e.fields(batch),
        lambda e: e.pooled_history(batch),
        lambda e: e.pooled_history_by_scenario(batch, 3),
        lambda e: e.history_in_scenario(batch, *every, 3),
    ):
        found = pool(double)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.float(), pool(embedding), atol=1e-7, rtol=1e-5)
