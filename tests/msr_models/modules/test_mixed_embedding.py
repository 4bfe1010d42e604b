"""Fields with rows of their own width: against plain loops, row by row and id by id."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.modules.embedding import FieldEmbedding
from msr_models.modules.field_vectors import INITIAL_STD
from msr_models.modules.mixed_embedding import MixedEmbedding, make_vectors
from tests.support.batches import LAYOUT, WITH_DIMS, random_batch, take
from tests.support.behaviours import batch_with_gaps

WIDTH = 8


def make(dims: tuple[int | None, ...] = WITH_DIMS.embedding_dims) -> MixedEmbedding:
    """Vectors that differ clearly from id to id."""
    layout = dataclasses.replace(WITH_DIMS, embedding_dims=dims)
    embedding = MixedEmbedding(layout, WIDTH, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for table in embedding.tables.values():
            table.get_parameter("weight").mul_(30)
    return embedding


def vector(embedding: MixedEmbedding, name: str, i: int) -> Tensor:
    """P_f e_f of one id, read from the weights by their names."""
    weights = embedding.state_dict(keep_vars=True)
    dims = {n: dim or WIDTH for n, dim in zip(LAYOUT.names, embedding.layout.embedding_dims, strict=True)}
    width, rows = dims[name], dict(zip(LAYOUT.names, LAYOUT.num_rows, strict=True))
    before = LAYOUT.names[: LAYOUT.names.index(name)]
    row_W = weights[f"tables.{width}.weight"][sum(rows[n] for n in before if dims[n] == width) + i]
    return (
        row_W
        if width == WIDTH
        else sum((row_W[w] * weights[f"projection_{name}"][w] for w in range(width)), torch.zeros(WIDTH))
    )


def fields_of_row(embedding: MixedEmbedding, batch: Batch, row: int) -> Tensor:
    ids = [i if i < n else 0 for i, n in zip(batch.slot_ids_BS[row].tolist(), (11, 9, 5, 5, 5, 4), strict=True)]
    tags = [vector(embedding, "tags", i) for i in ids[2:5] if i > 0]
    mean = torch.stack(tags).mean(0) if tags else torch.zeros(WIDTH)
    user, item, price = (vector(embedding, n, i) for n, i in (("user", ids[0]), ("item", ids[1]), ("price", ids[5])))
    return torch.stack([user, item, mean, price])


def behaviours_of_row(embedding: MixedEmbedding, batch: Batch, row: int) -> list[Tensor]:
    found = []
    for item, price in batch.hist_ids_BLA[row].tolist():
        parts = [vector(embedding, n, i) for n, i, rows in (("item", item, 9), ("price", price, 4)) if 0 < i < rows]
        if parts:
            found.append(torch.stack(parts).sum(0))
    return found


def mean_of(vectors: list[Tensor]) -> Tensor:
    return torch.stack(vectors).mean(0) if vectors else torch.zeros(WIDTH)


@pytest.mark.parametrize("dims", [WITH_DIMS.embedding_dims, (3, 3, None, 3), (None, 2, 2, None)])
@pytest.mark.parametrize("row_gradient", [False, True])
def test_vectors_masks_means_and_gradients_are_those_of_plain_loops(
    dims: tuple[int | None, ...], row_gradient: bool
) -> None:
    embedding, batch = make(dims), batch_with_gaps(30)
    for table in embedding.tables.values():
        assert isinstance(table, FieldEmbedding)
        table.row_gradient = row_gradient
    behaviours = [behaviours_of_row(embedding, batch, row) for row in range(30)]
    mask_BL = embedding.history_mask(batch)
    assert mask_BL.sum(1).tolist() == [len(vectors) for vectors in behaviours] and not behaviours[0]
    pairs = (
        (embedding.fields(batch), torch.stack([fields_of_row(embedding, batch, row) for row in range(30)])),
        (embedding.history(batch)[mask_BL], torch.stack([v for vectors in behaviours for v in vectors])),
        (embedding.pooled_history(batch), torch.stack([mean_of(vectors) for vectors in behaviours])),
    )
    weights = dict(embedding.named_parameters())
    touched = set()
    for got, want in pairs:
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
        by = torch.randn(want.shape, generator=torch.Generator().manual_seed(1))
        of_got, of_want = (
            torch.autograd.grad((x * by).sum(), list(weights.values()), retain_graph=True, allow_unused=True)
            for x in (got, want)
        )
        for name, mine, theirs in zip(weights, of_got, of_want, strict=True):
            if theirs is not None:
                assert mine is not None and mine.is_sparse == (row_gradient and name.startswith("tables.")), name
                torch.testing.assert_close(mine.to_dense(), theirs, atol=1e-5, rtol=1e-4)
                touched.add(name)
    assert touched == set(weights) and set(weights) == {
        *(f"tables.{dim or WIDTH}.weight" for dim in dims),
        *(f"projection_{name}" for name, dim in zip(LAYOUT.names, dims, strict=True) if dim is not None),
    }


def test_behaviours_of_each_scenario_are_pooled_apart() -> None:
    embedding, batch = make(), batch_with_gaps(30)
    row_V, scenario_V = torch.tensor([5, 0, 17, 5, 29]), torch.tensor([0, 1, 1, 2, 2])
    pooled_BKD = embedding.pooled_history_by_scenario(batch, 3)
    torch.testing.assert_close(
        embedding.history_in_scenario(batch, row_V, scenario_V, 3), pooled_BKD[row_V, scenario_V]
    )
    for row in range(30):
        for k in range(3):
            happened_LA = torch.where((batch.hist_scenario_BL[row] == k)[:, None], batch.hist_ids_BLA[row], 0)
            part = dataclasses.replace(take(batch, torch.tensor([row])), hist_ids_BLA=happened_LA[None])
            want_D = mean_of(behaviours_of_row(embedding, part, 0))
            torch.testing.assert_close(pooled_BKD[row, k], want_D, atol=1e-5, rtol=1e-5)


def test_the_target_is_composed_as_a_behaviour_is() -> None:
    embedding, batch = make(), random_batch(20, 1, layout=WITH_DIMS)
    history_BLA = batch.slot_ids_BS[:, None, [1, 5]].expand(20, LAYOUT.hist_length, 2)
    batch = dataclasses.replace(batch, hist_ids_BLA=history_BLA)
    target_BD = embedding.target(embedding.fields(batch), embedding.target_parts(batch))
    known_B = embedding.history_mask(batch)[:, 0]
    assert known_B.any()
    torch.testing.assert_close(target_BD[known_B], embedding.history(batch)[known_B, 0])


def test_vectors_of_a_field_are_those_of_its_rows() -> None:
    embedding = make()
    for f, (name, rows) in enumerate(zip(LAYOUT.names, LAYOUT.num_rows, strict=True)):
        want_RD = torch.stack([vector(embedding, name, i) for i in range(rows)])
        torch.testing.assert_close(embedding.vectors_of(f), want_RD, atol=1e-6, rtol=1e-5)


def test_several_fields_of_one_width_share_a_table_and_have_projections_of_their_own() -> None:
    layout = dataclasses.replace(WITH_DIMS, embedding_dims=(2, None, 2, 2))
    embedding, batch = MixedEmbedding(layout, 4, torch.Generator().manual_seed(0)), random_batch(20, 2, layout=layout)
    weights = embedding.state_dict()
    assert {name: tuple(w.shape) for name, w in weights.items() if "tables" in name} == {
        "tables.2.weight": (11 + 5 + 4, 2),
        "tables.4.weight": (9, 4),
    }
    price_B2 = weights["tables.2.weight"][16 + batch.slot_ids_BS[:, 5].long()]
    torch.testing.assert_close(embedding.fields(batch)[:, 3], price_B2 @ weights["projection_price"])
    item_B4 = weights["tables.4.weight"][batch.slot_ids_BS[:, 1].long()]
    assert torch.equal(embedding.fields(batch)[:, 1], item_B4)


def test_fresh_vectors_of_narrow_fields_have_the_spread_of_the_others() -> None:
    layout = dataclasses.replace(LAYOUT, num_rows=(4000, 4000, 5, 4), embedding_dims=(4, None, None, None))
    embedding = MixedEmbedding(layout, 16, torch.Generator().manual_seed(0))
    user, item = (float(embedding.vectors_of(f).detach().std()) for f in (0, 1))
    assert user == pytest.approx(INITIAL_STD, rel=0.25) and item == pytest.approx(INITIAL_STD, rel=0.02)


@pytest.mark.parametrize("dims", [(), (None, None, None, None), (8, 30, None, 9)])
def test_one_table_where_no_field_is_narrower(dims: tuple[int | None, ...]) -> None:
    """The same weights as without the key, also where a field's embedding_dim is above the model's."""
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    made = make_vectors(dataclasses.replace(LAYOUT, embedding_dims=dims), WIDTH, generators[0])
    plain = FieldEmbedding(LAYOUT, WIDTH, generators[1])
    assert type(made) is FieldEmbedding and torch.equal(made.weight, plain.weight)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_double_precision_and_low_precision_give_alike_vectors() -> None:
    embedding, batch = make(), random_batch(30, 3, layout=WITH_DIMS)
    double = copy.deepcopy(embedding).double()
    for pool in (
        lambda e: e.fields(batch),
        lambda e: e.history(batch),
        lambda e: e.pooled_history(batch),
        lambda e: e.pooled_history_by_scenario(batch, 3),
    ):
        found = pool(double)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.float(), pool(embedding), atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = embedding.fields(batch)[:, [0, 1, 3]]
    assert low.dtype == torch.float32 and torch.equal(low, embedding.fields(batch)[:, [0, 1, 3]])


def test_a_layout_without_behaviours_pools_to_zeros() -> None:
    layout, batch = dataclasses.replace(WITH_DIMS, hist_length=0), random_batch(3, 2, layout=WITH_DIMS)
    embedding = MixedEmbedding(layout, WIDTH, torch.Generator())
    none = dataclasses.replace(batch, hist_ids_BLA=torch.zeros(3, 0, 2, dtype=torch.int32))
    assert torch.equal(embedding.pooled_history(none), torch.zeros(3, WIDTH))


def test_ids_that_have_no_row_count_as_unknown() -> None:
    """Evicted ones, and those of a newer vocabulary."""
    layout = dataclasses.replace(WITH_DIMS, live=((), ((1, 4), (7, 12)), (), ()))
    embedding, batch = (
        MixedEmbedding(layout, WIDTH, torch.Generator().manual_seed(0)),
        random_batch(3, 1, layout=layout),
    )
    slots_BS = batch.slot_ids_BS.clone()
    slots_BS[:, 1] = torch.tensor([5, 99, 0])
    items_BD = embedding.fields(dataclasses.replace(batch, slot_ids_BS=slots_BS))[:, 1]
    assert torch.equal(items_BD[0], items_BD[2]) and torch.equal(items_BD[1], items_BD[2])
    slots_BS[:, 1] = torch.tensor([7, 8, 3])
    items_BD = embedding.fields(dataclasses.replace(batch, slot_ids_BS=slots_BS))[:, 1]
    torch.testing.assert_close(items_BD, embedding.vectors_of(1)[[4, 5, 3]])
