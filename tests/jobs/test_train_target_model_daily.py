"""Training with start: previous_day: what a day gets does not depend on the order in which days are trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import yaml

from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from lake.locations import artifact_path
from msr_models.models.registry import build_model
from msr_models.training.checkpoint import load_checkpoint
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError, TrainingError
from schemas.tables import get_table
from tests.support.empty_days import publish_empty
from tests.support.steps import train as run
from tests.support.tiny_lake import NUM_ITEMS, NUM_USERS, tiny_dataset, write_masks, write_shared_set, write_tiny_lake

ROWS = 150
DAYS = [date(2026, 1, d) for d in range(2, 9)]
FIRST, SECOND, THIRD = DAYS[3], DAYS[4], DAYS[5]
MODEL = "shared_bottom"
SETTINGS = {
    "window_days": 3,
    "batch_size": 64,
    "max_epochs": 2,
    "learning_rate": 0.01,
    "ratios": [0.0, 0.5, 1.0],
    "models": [{"name": MODEL, "options": {"embedding_dim": 4, "hidden": [8]}}],
    "start": "previous_day",
}


def daily(**changes: object) -> DatasetSpec:
    return tiny_dataset(training=SETTINGS | changes)


def make_lake(spec: DatasetSpec) -> None:
    """Users appear from day to day; a set searched on days 3 .. 5 is in force from the 6th on, not on the 5th."""
    write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
    for n, day in enumerate(DAYS):
        grow_vocabulary(spec, day, n)
    write_masks(spec, "set", DAYS, rows_per_day=ROWS)
    write_shared_set(spec, "set", (DAYS[1], DAYS[3]))


def grow_vocabulary(spec: DatasetSpec, day: date, extra_users: int) -> None:
    version = spec.vocabulary_version(day)
    rows = lake_reader.read_table(spec, "vocabularies", filters={"first_version": str(version)})
    ids = [NUM_USERS + 1 + n for n in range(extra_users)]
    more = [{"first_version": version, "field": "user", "value": f"user{i}", "id": i, "change": "added"} for i in ids]
    rows = pa.concat_tables([rows, pa.Table.from_pylist(more, schema=rows.schema)])
    overwrite_partition(rows, spec, "vocabularies", {"first_version": str(version)})


def runs(spec: DatasetSpec, ds: date) -> list[dict[str, Any]]:
    rows = lake_reader.read_table(spec, "training_runs", days=[ds]).to_pylist()
    return sorted(rows, key=lambda r: r["ratio"])


def content(spec: DatasetSpec) -> list[dict[str, Any]]:
    columns = get_table("training_runs").content_columns
    rows = lake_reader.read_table(spec, "training_runs").to_pylist()
    return sorted(({c: r[c] for c in columns} for r in rows), key=lambda r: (r["ds"], r["ratio"]))


def manifest(row: dict[str, Any]) -> dict[str, Any]:
    return json.loads(row["manifest"])


@pytest.fixture(scope="module")
def spec(module_lake: Path) -> DatasetSpec:
    """The third day asked for alone."""
    spec = daily()
    make_lake(spec)
    run(spec, THIRD)
    return spec


def test_days_that_are_missing_are_made_first(spec: DatasetSpec) -> None:
    by_day = {d: runs(spec, d) for d in (FIRST, SECOND, THIRD)}
    assert [r["ratio"] for r in by_day[FIRST]] == [0.0]  # the set ends on the day itself
    assert [r["ratio"] for r in by_day[SECOND]] == [r["ratio"] for r in by_day[THIRD]] == [0.0, 0.5, 1.0]
    assert [r["train_rows"] for d in by_day for r in by_day[d][:1]] == [2 * ROWS, ROWS, ROWS]
    for rows in by_day.values():
        assert sum(r["is_selected"] for r in rows) == 1


def test_the_manifest_says_what_a_run_started_from(spec: DatasetSpec) -> None:
    first, second, third = (runs(spec, d) for d in (FIRST, SECOND, THIRD))
    assert [(manifest(r)["start"], manifest(r)["predecessor"]) for r in first] == [("scratch", None)]
    # No run of r > 0 on the first day: all start from its r = 0
    for before, rows in (([first[0]] * 3, second), (second, third)):
        for was, row in zip(before, rows, strict=True):
            said = manifest(row)
            assert said["start"] == "previous_day"
            assert said["predecessor"] == {
                "ds": was["ds"],
                "run_id": was["run_id"],
                "ratio": was["ratio"],
                "checkpoint_sha256": was["checkpoint_sha256"],
                "chain_start": str(FIRST),
                "new_scenario_start": None,
            }
    assert manifest(third[0])["train_days"] == [str(DAYS[3])] and manifest(third[0])["validation_days"] == [str(SECOND)]


@pytest.mark.parametrize("order", [[FIRST, SECOND, THIRD], [SECOND, THIRD, FIRST], [THIRD, FIRST]])
def test_the_order_of_days_does_not_matter(
    order: Sequence[date], spec: DatasetSpec, lake: Path, module_lake: Path
) -> None:
    make_lake(spec)
    for day in order:
        run(spec, day)
    here = content(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSR_LAKE_ROOT", str(module_lake))
        assert here == content(spec)


def test_a_second_time_trains_nothing(spec: DatasetSpec, caplog: pytest.LogCaptureFixture) -> None:
    version = lake_reader.table_version(spec, "training_runs")
    run(spec, SECOND, THIRD)
    assert caplog.text.count("the same 3 runs exist") == 2
    assert lake_reader.table_version(spec, "training_runs") == version


def test_ids_keep_their_vectors_and_new_ones_are_fresh(spec: DatasetSpec) -> None:
    """The new user, which no row has, keeps a fresh model's vector; items have moved little from the day before."""
    (old, old_card), (new, new_card) = (
        load_checkpoint(artifact_path(spec, runs(spec, d)[0]["checkpoint_uri"])) for d in (SECOND, THIRD)
    )
    assert new_card.layout.num_rows[0] == old_card.layout.num_rows[0] + 1
    fresh = build_model(new_card.model, new_card.options, new_card.layout, new.num_scenarios, new_card.seed)
    assert torch.equal(
        new.embedding.get_parameter("weight")[NUM_USERS + 4], fresh.embedding.get_parameter("weight")[NUM_USERS + 4]
    )
    assert old_card.layout.num_rows[0] == NUM_USERS + 4
    start, start_old = new_card.layout.row_starts[1], old_card.layout.row_starts[1]
    assert start == start_old + 1
    items = new.embedding.get_parameter("weight")[start : start + NUM_ITEMS + 1]
    distance = (items - old.embedding.get_parameter("weight")[start_old : start_old + NUM_ITEMS + 1]).abs().mean()
    from_scratch = (items - fresh.embedding.get_parameter("weight")[start : start + NUM_ITEMS + 1]).abs().mean()
    assert distance < 0.5 * from_scratch


def test_a_run_is_repeated_and_needs_its_predecessor(spec: DatasetSpec, caplog: pytest.LogCaptureFixture) -> None:
    row, before = runs(spec, THIRD)[1], runs(spec, SECOND)[1]
    path = artifact_path(spec, row["predictions_uri"]).with_name("manifest.json")
    weights = artifact_path(spec, before["checkpoint_uri"])
    version, whole = lake_reader.table_version(spec, "training_runs"), weights.read_bytes()
    run(spec, manifest=path)
    assert f"{row['run_id']}: the same metrics" in caplog.text
    try:
        weights.write_bytes(whole[:-10])
        with pytest.raises(TrainingError, match=rf"{row['run_id']} starts from run {before['run_id']} .*sha256"):
            run(spec, manifest=path)
        weights.unlink()
        with pytest.raises(
            TrainingError, match=rf"{row['run_id']} starts from run {before['run_id']} .*cannot be read"
        ):
            run(spec, manifest=path)
    finally:
        weights.write_bytes(whole)
    assert lake_reader.table_version(spec, "training_runs") == version


def test_a_day_whose_checkpoint_is_damaged_is_made_again(spec: DatasetSpec) -> None:
    before = content(spec)
    artifact_path(spec, runs(spec, SECOND)[2]["checkpoint_uri"]).write_bytes(b"half")
    run(spec, THIRD, retrain=True)
    assert content(spec) == before
    load_checkpoint(
        artifact_path(spec, runs(spec, SECOND)[2]["checkpoint_uri"]), runs(spec, SECOND)[2]["checkpoint_sha256"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"models": [{"name": MODEL, "options": {"embedding_dim": 8, "hidden": [8]}}]},
            "with options.embedding_dim 4, not 8;",
        ),
        ({"learning_rate": 0.02}, "with trainer.learning_rate 0.01, not 0.02;"),
        (
            {"ratios": [0.25]},
            r"r=0.25 of 2026-01-07 starts from the same of 2026-01-06, which has runs of r = 0, 0.5, 1",
        ),
        ({"window_days": 2}, 'chain_start "2026-01-05", not "2026-01-04"'),
    ],
)
def test_runs_of_other_settings_are_no_start_and_are_not_replaced(
    change: dict[str, Any], message: str, spec: DatasetSpec
) -> None:
    before, version = content(spec), lake_reader.table_version(spec, "training_runs")
    changed = daily(**change)
    with pytest.raises(TrainingError, match=message) as caught:
        run(changed, THIRD)
    assert f"--to {THIRD}, or set training.start: scratch" in str(caught.value)
    assert content(spec) == before and lake_reader.table_version(spec, "training_runs") == version


def test_runs_from_scratch_are_no_start(spec: DatasetSpec, lake: Path) -> None:
    make_lake(spec)
    run(daily(start="scratch"), FIRST, SECOND)
    with pytest.raises(TrainingError, match=r'made with start "scratch", not "previous_day".*--from 2026-01-05 --to'):
        run(spec, THIRD)
    run(spec, FIRST, SECOND, THIRD)  # the remedy
    assert manifest(runs(spec, THIRD)[0])["predecessor"]["ds"] == str(SECOND)


def test_the_first_day_is_the_same_run_from_scratch(spec: DatasetSpec, lake: Path) -> None:
    make_lake(spec)
    scratch = daily(start="scratch")
    run(scratch, FIRST, THIRD)
    row = runs(scratch, FIRST)[0]
    assert manifest(row)["start"] == "scratch" and len(manifest(runs(scratch, THIRD)[0])["train_days"]) == 2
    version = lake_reader.table_version(spec, "training_runs")
    run(spec, FIRST)
    assert lake_reader.table_version(spec, "training_runs") == version and runs(spec, FIRST)[0] == row


def test_when_a_day_to_make_first_fails_nothing_is_written(spec: DatasetSpec, lake: Path) -> None:
    make_lake(spec)
    for ds in DAYS[2:4]:
        empty = lake_reader.read_table(spec, "shared_instance_masks", days=[ds]).slice(0, 0)
        overwrite_partition(empty, spec, "shared_instance_masks", {"shared_set_id": "set", "ds": str(ds)})
    with pytest.raises(SharedSetError, match=r"2026-01-04.*score_shared_instances"):
        run(spec, THIRD)
    # The first day, which needs no masks, is whole; nothing of the others is there
    assert {r["ds"] for r in content(spec)} == {str(FIRST)}


def test_a_day_with_nothing_new_keeps_the_weights(lake: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The one day that the 8th would add was published empty."""
    settings = SETTINGS | {"window_days": 4, "validation_days": 2}
    spec = tiny_dataset(training=settings, days={"start": "2026-01-01", "allow_empty": True})
    write_tiny_lake(spec, [d for d in DAYS if d != DAYS[3]], rows_per_day=ROWS)
    publish_empty(spec, DAYS[3])
    run(spec, DAYS[6])
    assert caplog.text.count("no new rows: the weights of the run before are kept") == 1
    before, row = runs(spec, DAYS[5])[0], runs(spec, DAYS[6])[0]
    assert (row["train_rows"], row["epochs"]) == (0, 0) and manifest(row)["predecessor"]["run_id"] == before["run_id"]
    old, new = (load_checkpoint(artifact_path(spec, r["checkpoint_uri"]))[0].state_dict() for r in (before, row))
    assert all(torch.equal(old[name], new[name]) for name in old)


def _commands(spec: DatasetSpec, folder: Path, *, side_by_side: bool) -> list[list[str]]:
    path = folder / f"{spec.name}.yaml"
    path.write_text(yaml.safe_dump(json.loads(spec.model_dump_json(exclude_defaults=True))))
    step = ["-m", "jobs.train_target_model", "--dataset", str(path), "--ds"]
    if side_by_side:
        return [[sys.executable, *step, str(day)] for day in (SECOND, THIRD)]
    return [[sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *step, str(THIRD)]]


@pytest.mark.slow
@pytest.mark.parametrize("side_by_side", [True, False], ids=["two days side by side", "one day by two processes"])
def test_processes_that_make_the_same_days_agree(
    side_by_side: bool, spec: DatasetSpec, lake: Path, module_lake: Path, tmp_path: Path
) -> None:
    make_lake(spec)
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(command, cwd=root, env=dict(os.environ), stdout=subprocess.DEVNULL)
        for command in _commands(spec, tmp_path, side_by_side=side_by_side)
    ]
    assert [process.wait(timeout=240) for process in processes] == [0] * len(processes)
    here = content(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSR_LAKE_ROOT", str(module_lake))
        there = content(spec)
    if side_by_side:
        assert here == there
        return
    # Two processes sum gradients in another order, so bits differ; the runs are the same ones
    assert [(r["ds"], r["ratio"], r["train_rows"]) for r in here] == [
        (r["ds"], r["ratio"], r["train_rows"]) for r in there
    ]
    assert [r["validation_logloss"] for r in here] == pytest.approx([r["validation_logloss"] for r in there], rel=1e-3)
