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


def test_retain_does_not_change_the_lineage() -> None:
    assert random_dataset(retain={"runs_days": 3}).lineage == random_dataset().lineage
