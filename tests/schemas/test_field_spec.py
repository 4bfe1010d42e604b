"""Bounds of vocabularies belong to the lineage where they are set, and only there."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.dataset_spec import DatasetSpec
from schemas.load_dataset import load_dataset
from tests.support.random_log import random_dataset


def with_user(**bounds: Any) -> DatasetSpec:
    fields = [f.model_dump() for f in random_dataset().fields]
    return random_dataset(fields=[fields[0] | bounds, *fields[1:]])


@pytest.mark.parametrize("bounds", [{"max_ids": 5}, {"evict_after_days": 5}, {"hash_buckets": 5}])
def test_a_bound_changes_the_lineage(bounds: dict[str, int]) -> None:
    assert with_user(**bounds).lineage != with_user().lineage == random_dataset().lineage
    assert with_user(**bounds).fields[0].is_bounded and not with_user().fields[0].is_bounded
    assert with_user(**dict.fromkeys(bounds)).lineage == with_user().lineage, "null is the default"


def test_lineages_of_data_sets_without_these_keys_stay() -> None:
    assert load_dataset("generated").lineage == "dc90d31b"


def test_a_width_of_embeddings_is_the_models_matter() -> None:
    narrow = with_user(embedding_dim=4)
    assert narrow.lineage == random_dataset().lineage
    assert [f.embedding_dim for f in narrow.encoded_fields] == [4, *[None] * (len(narrow.encoded_fields) - 1)]
    with pytest.raises(ValidationError, match=r"fields.0.embedding_dim\n.*greater than or equal to 1"):
        with_user(embedding_dim=0)


def test_a_dense_value_belongs_to_the_lineage_of_numeric_fields_of_all_days() -> None:
    fields = [f.model_dump() for f in random_dataset().fields]
    at = next(i for i, f in enumerate(fields) if f["kind"] == "numeric")

    def with_numeric(**keys: Any) -> DatasetSpec:
        return random_dataset(fields=[*fields[:at], fields[at] | keys, *fields[at + 1 :]])

    dense = with_numeric(dense={"transform": "log1p"})
    assert [f.name for f in dense.dense_fields] == ["price"] and dense.fields[at].dense_column == "d_price"
    others = [with_numeric(dense={}), with_numeric(dense={"clip": 3}), random_dataset()]
    assert len({dense.lineage, *(other.lineage for other in others)}) == 4
    with pytest.raises(ValidationError, match="dense has no effect on kind categorical, which has no number"):
        with_user(dense={})
    with pytest.raises(ValidationError, match="dense needs a field of all days, and this one begins on 2026-03-03"):
        with_numeric(dense={}, since="2026-03-03")
    for wrong in ({"clip": 0}, {"transform": "sqrt"}, {"clipp": 2}):
        with pytest.raises(ValidationError, match=f"fields.{at}.dense.{next(iter(wrong))}"):
            with_numeric(dense=wrong)


def test_retain_does_not_change_the_lineage() -> None:
    assert random_dataset(retain={"runs_days": 3}).lineage == random_dataset().lineage
