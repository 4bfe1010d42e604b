"""Masks of features that were rebuilt since: refused by training, and replaced by scoring."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs import score_shared_instances, search_shared_instances
from jobs.cli import StepArgs, parse
from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from lake.locations import table_uri
from msr_models.data.window import Window, load_window
from msr_models.sets.feature_files import feature_files, stale_days
from msr_models.ssim.search import run_search
from msr_models.ssim.set_scoring import is_scored
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.tables import get_table
from tests.support.tiny_lake import SMALL_SEARCH, tiny_dataset, tiny_day, write_tiny_lake

DAYS = [date(2026, 1, d) for d in range(2, 9)]
WINDOW, LATER, DS = DAYS[:3], DAYS[3:6], DAYS[6]
ROWS = 300
MASKS, DRIFT = "shared_instance_masks", "shared_instance_drift"


@pytest.fixture(scope="module")
def scored_lake(module_lake: Path) -> Path:
    """A set of the first three days, and masks of the three after them."""
    spec = tiny_dataset(search=SMALL_SEARCH)
    write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
    search_shared_instances.search_day(spec, LATER[0], spec.search)
    score(spec, "--ds", str(DS))
    return module_lake


@pytest.fixture
def spec(scored_lake: Path, lake: Path) -> DatasetSpec:
    """A copy of that lake."""
    shutil.copytree(scored_lake, lake, dirs_exist_ok=True)
    return tiny_dataset(search=SMALL_SEARCH)


def score(spec: DatasetSpec, *words: str) -> None:
    """The step with the words of its command line."""
    options = parse(score_shared_instances.ScoreOptions, words)
    score_shared_instances.step(StepArgs(dataset=spec, days=options.days(), options=options))


def set_id(spec: DatasetSpec) -> str:
    (found,) = lake_reader.read_table(spec, "shared_instance_sets")["shared_set_id"].to_pylist()
    return str(found)


def content(spec: DatasetSpec, table: str, day: date) -> pa.Table:
    found = get_table(table)
    rows = lake_reader.read_table(spec, table, columns=found.content_columns, days=[day])
    return rows.sort_by([(key, "ascending") for key in found.keys])


def correct_a_field(spec: DatasetSpec, day: date) -> None:
    """The same instances, another item in all of them."""
    features, _ = tiny_day(spec, day, ROWS)
    at = features.column_names.index("f_item")
    items = pc.cast(pc.add(pc.bit_wise_xor(features["f_item"], 1), 0), pa.int32())
    items = pa.array(np.minimum(items.to_numpy(), 23), pa.int32())
    overwrite_partition(features.set_column(at, "f_item", items), spec, "scenario_features", {"ds": str(day)})


def move_histories(spec: DatasetSpec, day: date) -> None:
    """The same impressions after other behaviours."""
    _, sequences = tiny_day(spec, day, ROWS)
    at = sequences.column_names.index("hist_item_ids")
    turned = pa.array([[1 + item % 23 for item in items] for items in sequences["hist_item_ids"].to_pylist()])
    moved = sequences.set_column(at, "hist_item_ids", turned.cast(pa.list_(pa.int32())))
    overwrite_partition(moved, spec, "behaviour_sequences", {"ds": str(day)})


def with_masks(spec: DatasetSpec) -> Window:
    return load_window(spec, LATER, shared_set_id=set_id(spec))


@pytest.mark.parametrize("rebuild", [correct_a_field, move_histories])
def test_rebuilt_features_of_the_same_instances_are_scored_again(
    spec: DatasetSpec, rebuild: Callable[[DatasetSpec, date], None]
) -> None:
    before = {table: content(spec, table, LATER[1]) for table in (MASKS, DRIFT)}
    version = lake_reader.table_version(spec, MASKS)
    rebuild(spec, LATER[1])
    assert not is_scored(spec, set_id(spec), LATER[1])
    with pytest.raises(SharedSetError, match=r"other files of tiny than it has now \(2026-01-06\)") as error:
        with_masks(spec)
    score(spec, *shlex.split(str(error.value).split("jobs.score_shared_instances ")[1]))
    after = {table: content(spec, table, LATER[1]) for table in (MASKS, DRIFT)}
    assert after[MASKS]["instance_id"].equals(before[MASKS]["instance_id"])
    assert not after[MASKS]["shared_score"].equals(before[MASKS]["shared_score"])
    assert not after[DRIFT].equals(before[DRIFT]), "the comparison is of the new scores"
    assert not np.isnan(with_masks(spec).rank_N.numpy()).any()
    assert lake_reader.table_version(spec, MASKS) == version + 1, "no other day was touched"


def test_the_daily_step_scores_stale_days_of_the_window_too(spec: DatasetSpec) -> None:
    expected = content(spec, MASKS, WINDOW[2])
    correct_a_field(spec, LATER[0])
    write_tiny_lake(spec, [WINDOW[2]], rows_per_day=ROWS)
    assert stale_days(spec, set_id(spec), DAYS[:6]) == [WINDOW[2], LATER[0]]
    score(spec, "--ds", str(LATER[2]))
    assert stale_days(spec, set_id(spec), DAYS[:6]) == []
    assert content(spec, MASKS, WINDOW[2]).equals(expected), "the same rows under other names: the same masks"


def test_a_search_records_the_features_that_it_read_not_those_at_its_end(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_dataset(search=SMALL_SEARCH)
    write_tiny_lake(spec, WINDOW, rows_per_day=ROWS)

    def slow(*args: object, **options: object) -> object:
        correct_a_field(spec, WINDOW[1])
        return run_search(*args, **options)  # type: ignore[arg-type]  # passed on unchanged

    monkeypatch.setattr(search_shared_instances, "run_search", slow)
    search_shared_instances.search_day(spec, LATER[0], spec.search)
    assert stale_days(spec, set_id(spec), WINDOW) == [WINDOW[1]]


def test_compaction_costs_one_scoring_and_changes_nothing(spec: DatasetSpec) -> None:
    day, uri = LATER[0], table_uri(spec, "scenario_features")
    features, _ = tiny_day(spec, day, ROWS)
    expected = content(spec, MASKS, day)
    DeltaTable(uri).delete(f"ds = '{day}'")
    for start in (0, 1):
        part = features.take(np.arange(start, ROWS, 2)).select(DeltaTable(uri).to_pyarrow_dataset().schema.names)
        write_deltalake(uri, part, mode="append")
    score(spec, "--ds", str(DS))
    before = feature_files(spec, [day])
    DeltaTable(uri).optimize.compact()
    assert feature_files(spec, [day]) != before
    score(spec, "--ds", str(DS))
    assert stale_days(spec, set_id(spec), [day]) == [] and content(spec, MASKS, day).equals(expected)


def test_a_recorded_run_is_repeated_with_its_own_masks(spec: DatasetSpec) -> None:
    before = with_masks(spec)
    correct_a_field(spec, LATER[1])
    again = load_window(spec, LATER, shared_set_id=set_id(spec), versions=before.table_versions)
    assert (again.fingerprint, again.mask_fingerprint) == (before.fingerprint, before.mask_fingerprint)


def test_a_day_that_lost_masks_is_scored_again(spec: DatasetSpec) -> None:
    expected = content(spec, MASKS, LATER[0])
    uri = table_uri(spec, MASKS)
    DeltaTable(uri).delete(f"ds = '{LATER[0]}' AND instance_id = {expected['instance_id'][0]}")
    assert not is_scored(spec, set_id(spec), LATER[0])
    score(spec, "--ds", str(DS))
    assert content(spec, MASKS, LATER[0]).equals(expected)
