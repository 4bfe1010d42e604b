"""Windows read from a tiny lake: joins against a plain loop, independence of file layout, bad input."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from lake.provenance import made_of, record
from msr_models.data.window import Window, load_window
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError, TableError, TrainingError
from tests.support.empty_days import publish_empty
from tests.support.tiny_lake import (
    MAX_TAGS,
    NUM_ITEMS,
    NUM_USERS,
    WITH_ATTRIBUTE,
    tiny_dataset,
    tiny_day,
    write_masks,
    write_tiny_lake,
)

DAYS = [date(2026, 1, 2), date(2026, 1, 3), date(2026, 1, 4)]
ROWS = 120


@pytest.fixture(scope="module")
def dataset(module_lake: Path) -> DatasetSpec:
    spec = tiny_dataset(sequence=WITH_ATTRIBUTE)
    write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
    write_masks(spec, "set", DAYS[:2], rows_per_day=ROWS)
    return spec


@pytest.fixture(scope="module")
def window(dataset: DatasetSpec) -> Window:
    return load_window(dataset, DAYS)


def content(window: Window) -> list[torch.Tensor]:
    batch = window.batch(torch.arange(len(window)))
    return [
        window.instance_id_N,
        window.user_key_N,
        batch.slot_ids_BS,
        batch.hist_ids_BLA,
        batch.hist_scenario_BL,
        batch.scenario_B,
        batch.label_B,
    ]


def test_rows_equal_a_plain_loop_over_the_tables(dataset: DatasetSpec, window: Window) -> None:
    batch = window.batch(torch.arange(len(window)))
    at = 0
    for ds in DAYS:
        features, sequences = tiny_day(dataset, ds, ROWS)
        lists = ("hist_item_ids", "hist_f_user", "hist_scenario_ids")
        stored = {r["user_key"]: list(zip(*(r[name] for name in lists), strict=True)) for r in sequences.to_pylist()}
        for row in sorted(features.to_pylist(), key=lambda r: r["instance_id"]):
            assert int(window.instance_id_N[at]) == row["instance_id"] and window.days[int(window.day_N[at])] == ds
            assert int(batch.scenario_B[at]) == row["scenario_id"] and int(batch.label_B[at]) == row["label"]
            seen = stored[row["user_key"]][: row["hist_end"]][-dataset.sequence.max_length :]
            want = [(0, 0, -1)] * (dataset.sequence.max_length - len(seen)) + seen
            assert batch.hist_ids_BLA[at].tolist() == [[item, user] for item, user, _ in want]
            assert batch.hist_scenario_BL[at].tolist() == [scenario for _, _, scenario in want]
            tags = list(row["f_tags"]) + [0] * (MAX_TAGS - len(row["f_tags"]))
            rest = [row[f.column] for f in dataset.encoded_fields if f.is_statistic]
            assert batch.slot_ids_BS[at].tolist() == [row["f_user"], row["f_item"], *tags, row["f_price"], *rest]
            at += 1
    assert at == len(window) == ROWS * len(DAYS)


def test_types_and_layout(dataset: DatasetSpec, window: Window) -> None:
    batch = window.batch(torch.tensor([5, 3, 5]))
    assert batch.slot_ids_BS.dtype == batch.hist_ids_BLA.dtype == torch.int32
    assert batch.hist_scenario_BL.dtype == torch.int16
    assert window.layout.behaviour_names == ("item", "user")
    assert batch.scenario_B.dtype == torch.int64 and batch.label_B.dtype == torch.float32
    assert not batch.shared_B.any() and torch.equal(batch.slot_ids_BS[0], batch.slot_ids_BS[2])
    assert window.layout.num_rows[:2] == (NUM_USERS + 1, NUM_ITEMS + 1)
    assert window.layout.total_slots == len(dataset.encoded_fields) - 1 + MAX_TAGS
    assert window.vocabulary_version == dataset.vocabulary_version(DAYS[-1])


def test_ids_above_2_to_the_24_stay_apart(lake: Path) -> None:
    spec = tiny_dataset(statistics=None)
    write_tiny_lake(spec, DAYS[:1], rows_per_day=4)
    version = spec.vocabulary_version(DAYS[0])
    rows = lake_reader.read_table(spec, "vocabularies").to_pylist()
    rows.append({"first_version": version, "field": "user", "value": "big", "id": 2**24 + 2, "change": "added"})
    overwrite_partition(pa.Table.from_pylist(rows), spec, "vocabularies", {"first_version": str(version)})
    features, _ = tiny_day(spec, DAYS[0], 4)
    big = pa.array([2**24 + 1, 2**24, 2**24 + 2, 1], pa.int32())
    features = features.set_column(features.column_names.index("f_user"), "f_user", big)
    overwrite_partition(features, spec, "scenario_features", {"ds": str(DAYS[0])})
    ids = load_window(spec, DAYS[:1]).batch(torch.arange(4)).slot_ids_BS[:, 0]
    assert sorted(ids.tolist()) == [1, 2**24, 2**24 + 1, 2**24 + 2]


def test_content_does_not_depend_on_how_files_lie(
    dataset: DatasetSpec, window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "other"))
    for _ in range(2):  # a rewrite: other files, other Delta versions
        write_tiny_lake(dataset, DAYS[::-1], rows_per_day=ROWS, backwards=True)
    other = load_window(dataset, DAYS[::-1])
    assert other.fingerprint == window.fingerprint
    assert dict(other.table_versions) != dict(window.table_versions)
    assert all(torch.equal(a, b) for a, b in zip(content(other), content(window), strict=True))


def test_the_fingerprint_sees_rows_and_days(dataset: DatasetSpec, window: Window, lake: Path) -> None:
    write_tiny_lake(dataset, DAYS, rows_per_day=ROWS, seed=1)
    assert load_window(dataset, DAYS).fingerprint != window.fingerprint
    assert load_window(dataset, DAYS[:2]).fingerprint != load_window(dataset, DAYS[1:]).fingerprint


@pytest.mark.parametrize("column", ["hist_f_user", "hist_scenario_ids"])
def test_the_fingerprint_sees_attributes_and_scenarios_of_behaviours(
    dataset: DatasetSpec, window: Window, lake: Path, column: str
) -> None:
    write_tiny_lake(dataset, DAYS, rows_per_day=ROWS)
    _, sequences = tiny_day(dataset, DAYS[0], ROWS)
    turned = pa.array([[(i + 1) % 3 for i in ids] for ids in sequences[column].to_pylist()], pa.list_(pa.int32()))
    other = sequences.set_column(sequences.column_names.index(column), column, turned)
    overwrite_partition(other, dataset, "behaviour_sequences", {"ds": str(DAYS[0])})
    assert load_window(dataset, DAYS).fingerprint != window.fingerprint


def test_pinned_versions_read_the_past(dataset: DatasetSpec, lake: Path) -> None:
    write_tiny_lake(dataset, DAYS[:1], rows_per_day=ROWS)
    before = load_window(dataset, DAYS[:1])
    write_tiny_lake(dataset, DAYS[:1], rows_per_day=ROWS, seed=1)
    assert load_window(dataset, DAYS[:1]).fingerprint != before.fingerprint
    assert load_window(dataset, DAYS[:1], versions=before.table_versions).fingerprint == before.fingerprint


def test_rows_of_days_partition_the_window(window: Window) -> None:
    parts = [window.rows_of([ds]) for ds in DAYS]
    assert torch.equal(torch.cat(parts), torch.arange(len(window))) and [len(p) for p in parts] == [ROWS] * 3


def test_ranks_are_joined_by_instance_and_cut_by_the_ratio(dataset: DatasetSpec) -> None:
    window = load_window(dataset, DAYS, shared_set_id="set", mask_days=DAYS[:2])
    masks = lake_reader.read_table(dataset, "shared_instance_masks", filters={"shared_set_id": "set"}).to_pylist()
    want = {(r["ds"], r["instance_id"]): r["rank_pct"] for r in masks}
    keys = [(str(window.days[d]), i) for d, i in zip(window.day_N.tolist(), window.instance_id_N.tolist(), strict=True)]
    got = window.rank_N.tolist()
    assert all((want[k] == r) if k in want else r != r for k, r in zip(keys, got, strict=True))
    assert not window.shared_N.any() and not window.with_ratio(0.0).shared_N.any()
    third = window.with_ratio(0.3).shared_N
    assert third.tolist() == [want.get(k, 0.0) >= 0.7 for k in keys]
    assert torch.equal(window.with_ratio(1.0).shared_N, window.day_N < 2)  # all that have a mask


def test_missing_masks_are_counted_and_the_command_named(dataset: DatasetSpec) -> None:
    with pytest.raises(
        SharedSetError, match=rf"2026-01-04: {ROWS} of {ROWS}.*score_shared_instances.*--ds 2026-01-04 --shared-set set"
    ):
        load_window(dataset, DAYS, shared_set_id="set")


def test_one_missing_mask_is_an_error(dataset: DatasetSpec, lake: Path) -> None:
    write_tiny_lake(dataset, DAYS[:1], rows_per_day=ROWS)
    write_masks(dataset, "set", DAYS[:1], rows_per_day=ROWS)
    rows = lake_reader.read_table(dataset, "shared_instance_masks").slice(1)
    overwrite_partition(rows, dataset, "shared_instance_masks", {"shared_set_id": "set", "ds": str(DAYS[0])})
    with pytest.raises(SharedSetError, match=rf"2026-01-02: 1 of {ROWS}"):
        load_window(dataset, DAYS[:1], shared_set_id="set")


def test_missing_days_are_named_with_their_command(dataset: DatasetSpec) -> None:
    with pytest.raises(TrainingError, match=r"no rows of 2026-01-05, 2026-01-06.*build_scenario_features.*2026-01-06"):
        load_window(dataset, [*DAYS, date(2026, 1, 5), date(2026, 1, 6)])


def test_no_days_and_no_lake(dataset: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match="at least one day"):
        load_window(dataset, [])
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "nothing"))
    with pytest.raises(TableError, match="build_scenario_features"):
        load_window(dataset, DAYS)


def test_a_changed_lineage_names_both_and_the_rebuild(dataset: DatasetSpec) -> None:
    changed = tiny_dataset(sequence=WITH_ATTRIBUTE, vocabulary={"fit_days": 1, "refresh_days": 2})
    with pytest.raises(TableError, match=r"vocabulary.refresh_days was not set, the YAML says 2.*build_"):
        load_window(changed, DAYS)


def test_an_id_beyond_its_vocabulary_is_an_error(dataset: DatasetSpec, lake: Path) -> None:
    write_tiny_lake(dataset, DAYS[:1], rows_per_day=ROWS)
    features, _ = tiny_day(dataset, DAYS[0], ROWS)
    wrong = pa.array([NUM_ITEMS + 1] * ROWS, pa.int32())
    features = features.set_column(features.column_names.index("f_item"), "f_item", wrong)
    overwrite_partition(features, dataset, "scenario_features", {"ds": str(DAYS[0])})
    with pytest.raises(TrainingError, match=rf"f_item: id {NUM_ITEMS + 1} lies outside 0 .. {NUM_ITEMS}"):
        load_window(dataset, DAYS[:1])


def test_a_pointer_outside_its_session_is_an_error(dataset: DatasetSpec, lake: Path) -> None:
    write_tiny_lake(dataset, DAYS[:1], rows_per_day=ROWS)
    _, sequences = tiny_day(dataset, DAYS[0], ROWS)
    overwrite_partition(sequences.slice(0, 1), dataset, "behaviour_sequences", {"ds": str(DAYS[0])})
    with pytest.raises(TrainingError, match=r"\d+ of 120 rows .* point outside behaviour_sequences"):
        load_window(dataset, DAYS[:1])


def test_an_attribute_that_an_older_day_does_not_have_is_unknown_there(
    dataset: DatasetSpec, window: Window, lake: Path
) -> None:
    older = tiny_dataset()  # whose table has no column of attributes
    write_tiny_lake(older, DAYS[1:2], rows_per_day=ROWS)
    for ds in DAYS[:2]:
        features, sequences = tiny_day(dataset, ds, ROWS)
        spec, kept = (older, sequences.drop_columns("hist_f_user")) if ds == DAYS[0] else (dataset, sequences)
        record(dataset, made_of(dataset, "behaviour_sequences", ds))
        record(dataset, made_of(dataset, "scenario_features", ds))
        overwrite_partition(kept, spec, "behaviour_sequences", {"ds": str(ds)})
        overwrite_partition(features, dataset, "scenario_features", {"ds": str(ds)})
    rows = torch.arange(2 * ROWS)
    got_BLA, was_BLA = (w.batch(rows).hist_ids_BLA for w in (load_window(dataset, DAYS[:2]), window))
    assert torch.equal(got_BLA[:, :, 0], was_BLA[:, :, 0]) and torch.equal(got_BLA[ROWS:], was_BLA[ROWS:])
    assert got_BLA[:ROWS, :, 1].max() == 0 < was_BLA[:ROWS, :, 1].max()


@pytest.mark.parametrize("column", ["hist_f_user", "hist_scenario_ids"])
def test_lists_of_unlike_lengths_are_an_error(dataset: DatasetSpec, lake: Path, column: str) -> None:
    write_tiny_lake(dataset, DAYS[:1], rows_per_day=ROWS)
    _, sequences = tiny_day(dataset, DAYS[0], ROWS)
    lists = sequences[column].to_pylist()
    first = next(i for i, values in enumerate(lists) if len(values) > 2)
    cut = pa.array([*lists[:first], lists[first][:2], *lists[first + 1 :]], pa.list_(pa.int32()))
    broken = sequences.set_column(sequences.column_names.index(column), column, cut)
    overwrite_partition(broken, dataset, "behaviour_sequences", {"ds": str(DAYS[0])})
    with pytest.raises(TrainingError, match=rf"2026-01-02: {column} of 1 rows is not as long .*build_behaviour_seq"):
        load_window(dataset, DAYS[:1])


def test_fields_that_are_left_out_leave_behaviours_too(window: Window) -> None:
    rows = torch.arange(len(window))
    for names in (["item", "price"], ["price", "user", "item"]):
        some = window.with_fields(names)
        assert some.layout.behaviour_names == (("item", "user") if "user" in names else ("item",))
        assert torch.equal(
            some.batch(rows).hist_ids_BLA, window.batch(rows).hist_ids_BLA[:, :, : len(some.layout.behaviour_names)]
        )


def test_labels_of_one_class_are_an_error(window: Window) -> None:
    window.require_both_labels()
    positives = window.label_N.nonzero().squeeze(1)
    with pytest.raises(TrainingError, match=rf"all {len(positives)} labels .* are 1"):
        window.require_both_labels(positives)


def test_a_day_published_empty_is_no_missing_day(lake: Path) -> None:
    spec = tiny_dataset(days={"start": "2026-01-01", "allow_empty": True})
    write_tiny_lake(spec, DAYS[:2], rows_per_day=ROWS)
    with pytest.raises(TrainingError, match="no rows of 2026-01-04"):
        load_window(spec, DAYS)
    publish_empty(spec, DAYS[2])
    assert len(load_window(spec, DAYS)) == 2 * ROWS
    with pytest.raises(TrainingError, match="published empty"):
        load_window(spec, DAYS[2:])
