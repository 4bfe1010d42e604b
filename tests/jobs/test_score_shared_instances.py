"""The scoring step on a tiny lake: days without masks only, from the set that the day may use, the same again."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from lake.locations import artifact_path, table_uri
from msr_models.data.window import load_window
from msr_models.sets.catalogue import find_shared_set
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.tables import get_table
from tests.support.lake_copies import copy_lake
from tests.support.set_tables import clear_partition
from tests.support.steps import score, search
from tests.support.tiny_lake import tiny_dataset, tiny_day, write_shared_set, write_tiny_lake

WINDOW = [date(2026, 1, d) for d in (2, 3, 4)]
LATER = [date(2026, 1, d) for d in (5, 6, 7)]
DS = date(2026, 1, 8)
ROWS = 300
SEARCH = {
    "window_days": 3,
    "warmup_epochs": 2,
    "epochs": 2,
    "batch_size": 64,
    "embedding_dim": 4,
    "hidden": [16, 8],
    "selector_hidden": [8],
    "learning_rate": 0.01,
    "selector_learning_rate": 0.01,
}


@pytest.fixture
def searched(lake: Path) -> tuple[DatasetSpec, str]:
    """A lake with features up to DS and a set of the first three days; (data set, set id)."""
    spec = tiny_dataset(search=SEARCH)

    def build() -> None:
        write_tiny_lake(spec, [*WINDOW, *LATER, DS], rows_per_day=ROWS)
        search(spec, LATER[0])

    copy_lake(lake, __name__, build)
    found = find_shared_set(spec, LATER[0])
    assert found is not None
    return spec, found.shared_set_id


def masks(spec: DatasetSpec) -> pa.Table:
    """Content columns: what a day was scored from is not what came out."""
    columns = get_table("shared_instance_masks").content_columns
    rows = lake_reader.read_table(spec, "shared_instance_masks", columns=columns)
    return rows.sort_by([("ds", "ascending"), ("instance_id", "ascending")])


def scored_days(spec: DatasetSpec) -> set[date]:
    return lake_reader.published_days(spec, "shared_instance_masks")


def test_the_training_window_of_the_day_is_scored_and_no_more(searched: tuple[DatasetSpec, str]) -> None:
    spec, set_id = searched
    before = masks(spec)
    score(spec, DS)
    assert scored_days(spec) == {*WINDOW, *LATER}, "3 days before DS; DS itself is not scored"
    after = masks(spec)
    assert after.slice(0, before.num_rows).equals(before), "the searched days keep their masks"
    window = load_window(spec, LATER, shared_set_id=set_id)
    assert not np.isnan(window.rank_N.numpy()).any()


def test_again_in_another_order_or_day_by_day_gives_the_same(searched: tuple[DatasetSpec, str]) -> None:
    spec, set_id = searched
    score(spec, DS)
    expected, version = masks(spec), lake_reader.table_version(spec, "shared_instance_masks")
    score(spec, DS)
    assert lake_reader.table_version(spec, "shared_instance_masks") == version, "nothing was left to do"
    for day in LATER:
        clear_partition(spec, "shared_instance_masks", {"shared_set_id": set_id, "ds": str(day)})
    assert scored_days(spec) == set(WINDOW)
    for ds in (date(2026, 1, 7), date(2026, 1, 6), DS):
        score(spec, ds)
    assert masks(spec).equals(expected)


def test_scoring_a_searched_day_again_gives_the_masks_of_the_search(searched: tuple[DatasetSpec, str]) -> None:
    """One row, one score: whether it was scored with its window or with its day alone."""
    spec, set_id = searched
    expected = masks(spec)
    clear_partition(spec, "shared_instance_masks", {"shared_set_id": set_id, "ds": str(WINDOW[1])})
    score(spec, LATER[0])
    assert masks(spec).equals(expected)
    assert not lake_reader.table_exists(spec, "shared_instance_drift"), "a day of the window is no later day"


def test_a_day_whose_features_were_built_again_with_other_rows_is_scored_again(
    searched: tuple[DatasetSpec, str],
) -> None:
    spec, _ = searched
    score(spec, DS)
    features, sequences = tiny_day(spec, LATER[0], ROWS + 50)
    overwrite_partition(sequences, spec, "behaviour_sequences", {"ds": str(LATER[0])})
    overwrite_partition(features, spec, "scenario_features", {"ds": str(LATER[0])})
    score(spec, DS)
    found = masks(spec).filter(pc.equal(masks(spec)["ds"], str(LATER[0])))
    assert sorted(found["instance_id"].to_pylist()) == sorted(features["instance_id"].to_pylist())


def test_without_a_set_that_ends_before_the_day_it_says_so(
    searched: tuple[DatasetSpec, str], caplog: pytest.LogCaptureFixture
) -> None:
    spec, set_id = searched
    score(spec, WINDOW[-1])
    assert "nothing to score: the 3 days before it" in caplog.text
    with pytest.raises(SharedSetError, match=r"must not see"):
        score(spec, WINDOW[-1], shared_set=set_id)


def test_a_changed_selector_stops_the_step(searched: tuple[DatasetSpec, str]) -> None:
    spec, _ = searched
    found = find_shared_set(spec, DS)
    assert found is not None
    path = artifact_path(spec, found.selector_uri)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(SharedSetError, match="sha256"):
        score(spec, DS)
    assert scored_days(spec) == set(WINDOW), "nothing was written"


def test_files_and_their_order_do_not_decide_a_days_masks(searched: tuple[DatasetSpec, str]) -> None:
    """The same rows in other files: several of them, their rows turned round and spread."""
    spec, set_id = searched
    score(spec, DS)
    expected = masks(spec)
    for day in LATER:
        features, _ = tiny_day(spec, day, ROWS)
        uri = table_uri(spec, "scenario_features")
        DeltaTable(uri).delete(f"ds = '{day}'")
        columns = DeltaTable(uri).to_pyarrow_dataset().schema.names
        for start in range(7):
            part = features.select(columns).take(np.arange(start, ROWS, 7)[::-1].copy())
            write_deltalake(uri, part, mode="append", configuration={"delta.enableDeletionVectors": "false"})
        clear_partition(spec, "shared_instance_masks", {"shared_set_id": set_id, "ds": str(day)})
    assert scored_days(spec) == set(WINDOW)
    score(spec, DS)
    assert masks(spec).equals(expected)


def test_processes_under_a_launcher_share_the_days(
    searched: tuple[DatasetSpec, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, set_id = searched
    score(spec, DS)
    expected = masks(spec)
    for day in LATER:
        where = {"shared_set_id": set_id, "ds": str(day)}
        clear_partition(spec, "shared_instance_masks", where)
    monkeypatch.setenv("WORLD_SIZE", "2")
    parts = []
    for rank in ("0", "1"):
        before = scored_days(spec)
        monkeypatch.setenv("RANK", rank)
        score(spec, DS)
        parts.append(scored_days(spec) - before)
    assert parts[0] and parts[1] and parts[0] | parts[1] == set(LATER)
    assert masks(spec).equals(expected)


def test_a_named_set_is_used_instead_of_the_newest(searched: tuple[DatasetSpec, str]) -> None:
    spec, named = searched
    write_shared_set(spec, "newer", (WINDOW[0], LATER[0]))
    with pytest.raises(SharedSetError, match=r"nowhere cannot be read.*--restore newer$"):
        score(spec, DS)
    score(spec, DS, shared_set=named)
    assert set(masks(spec)["shared_set_id"].to_pylist()) == {named}
    expected = masks(spec)
    where = {"shared_set_id": named, "ds": str(WINDOW[-1])}
    clear_partition(spec, "shared_instance_masks", where)
    score(spec, LATER[0])
    assert masks(spec).equals(expected), "a backfill of an earlier day does not see the newer set"
