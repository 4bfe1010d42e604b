"""What `retain` lets go, what a kept run holds back, and what later steps say of removed days."""

from __future__ import annotations

import json
import os
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs import maintain_tables, report, runs
from jobs.cli import StepArgs
from jobs.hash_tables import hash_lake
from jobs.maintain_tables import MaintainOptions
from jobs.maintenance.needed import find_needed, pinned_versions
from lake.locations import artifacts_dir
from lake.reader import published_days, read_table, table_version
from lake.rows import read_rows, write_rows
from msr_models.data.window import load_window
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError, TrainingError
from schemas.tables import table_names
from schemas.tables.kept_runs import KeptRun
from schemas.tables.training_runs import TrainingRun
from tests.support.report_lake import training_run
from tests.support.steps import run_step
from tests.support.tiny_lake import tiny_dataset, write_masks, write_shared_set, write_tiny_lake

DAYS = [date(2026, 1, 2) + timedelta(days=n) for n in range(12)]
SMALL: dict[str, Any] = {"search": {"window_days": 2, "every_days": 2}, "training": {"window_days": 2}}


def spec(**retain: int) -> DatasetSpec:
    return tiny_dataset(**SMALL, retain=retain)


@pytest.fixture
def dataset(lake: Path) -> DatasetSpec:
    """Features of twelve days, and a run with files on each of the last eight."""
    plain = spec()
    write_tiny_lake(plain, DAYS, rows_per_day=20)
    write_masks(plain, "set", DAYS, rows_per_day=20)
    write_shared_set(plain, "set", (DAYS[8], DAYS[9]))
    for ds in DAYS[4:]:
        add_run(plain, ds)
    return plain


def add_run(dataset: DatasetSpec, ds: date, predecessor: str | None = None) -> str:
    run_id = f"shared_bottom-{ds}-x"
    folder = artifacts_dir(dataset) / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("weights.pt", "weights.json", "predictions.parquet", "manifest.json"):
        (folder / name).write_bytes(b"x" * 100)
    manifest = {
        "table_versions": {"scenario_features": table_version(dataset, "scenario_features")},
        "test_table_versions": {},
        "train_days": [str(ds - timedelta(days=2))],
        "validation_days": [str(ds - timedelta(days=1))],
        "predecessor": {"run_id": predecessor} if predecessor else None,
    }
    row = training_run(
        str(ds), run_id=run_id, checkpoint_uri=f"runs/{run_id}/weights.pt", manifest=json.dumps(manifest)
    )
    write_rows(dataset, [row])
    return run_id


def maintain(dataset: DatasetSpec, **options: Any) -> None:
    run_step(maintain_tables, dataset, options=MaintainOptions(retention_hours=0, **options))


def ask(dataset: DatasetSpec, command: runs.Command) -> None:
    runs.step(StepArgs(dataset=dataset, days=[], options=command))


def recorded(dataset: DatasetSpec) -> list[str]:
    return sorted(run.ds for run in read_rows(dataset, TrainingRun))


def files(dataset: DatasetSpec, name: str) -> list[str]:
    return sorted(path.parent.name[14:24] for path in (artifacts_dir(dataset) / "runs").glob(f"*/{name}"))


def days(*found: date) -> list[str]:
    return [str(ds) for ds in found]


def test_by_default_all_stays(dataset: DatasetSpec) -> None:
    before = list(hash_lake(dataset, table_names(), []))
    maintain(dataset)
    assert list(hash_lake(dataset, table_names(), [])) == before
    assert files(dataset, "weights.pt") == recorded(dataset) == days(*DAYS[4:])


def test_days_are_counted_from_the_newest_published_one(dataset: DatasetSpec) -> None:
    maintain(spec(runs_days=3, predictions_days=2, checkpoints_days=1))
    assert recorded(dataset) == files(dataset, "manifest.json") == days(*DAYS[9:])
    assert files(dataset, "predictions.parquet") == days(*DAYS[10:])
    assert files(dataset, "weights.pt") == files(dataset, "weights.json") == days(DAYS[11])


def test_the_newest_trained_day_stays_although_it_is_old(dataset: DatasetSpec) -> None:
    later = [DAYS[-1] + timedelta(days=n) for n in range(1, 6)]
    write_tiny_lake(dataset, later, rows_per_day=20)
    maintain(spec(runs_days=1, predictions_days=1, checkpoints_days=1))
    assert recorded(dataset) == files(dataset, "weights.pt") == files(dataset, "predictions.parquet") == days(DAYS[11])


def test_a_kept_run_stays_with_what_it_starts_from(dataset: DatasetSpec) -> None:
    kept = add_run(dataset, DAYS[6], predecessor=add_run(dataset, DAYS[5]))
    ask(dataset, runs.Keep(run=kept, reason="champion"))
    maintain(spec(runs_days=2, predictions_days=1, checkpoints_days=1))
    assert recorded(dataset) == files(dataset, "manifest.json") == days(DAYS[5], DAYS[6], *DAYS[10:])
    assert files(dataset, "weights.pt") == days(DAYS[5], DAYS[6], DAYS[11])
    ask(dataset, runs.Release(run=kept))
    maintain(spec(runs_days=2))
    assert recorded(dataset) == days(*DAYS[10:])


def test_feature_days_go_and_the_next_day_trains(dataset: DatasetSpec, caplog: pytest.LogCaptureFixture) -> None:
    small = spec(features_days=5)
    maintain(small)
    for table in ("scenario_features", "behaviour_sequences", "shared_instance_masks"):
        assert sorted(published_days(dataset, table)) == DAYS[7:]
        assert len(read_table(dataset, table, columns=["ds"]))
    assert f"scenario_features of {DAYS[0]}" in caplog.text
    assert len(load_window(small, DAYS[-2:])) == 40
    with pytest.raises(TrainingError, match=rf"has no rows of {DAYS[0]}; run: .*build_scenario_features"):
        load_window(small, DAYS[:1])
    run_step(report, small)


def test_versions_of_a_kept_run_can_be_read_after_its_days_went(dataset: DatasetSpec) -> None:
    write_tiny_lake(dataset, DAYS[:2], rows_per_day=15)  # a version that no other run names
    kept = add_run(dataset, DAYS[2])
    version = table_version(dataset, "scenario_features")
    write_tiny_lake(dataset, DAYS[:2], rows_per_day=10)
    ask(dataset, runs.Keep(run=kept))
    small = spec(features_days=5)
    assert version in pinned_versions(small)["scenario_features"]
    maintain(small)
    assert len(read_table(dataset, "scenario_features", days=DAYS[:2], version=version)) == 30
    ask(dataset, runs.Release(run=kept))
    assert version not in pinned_versions(small).get("scenario_features", set())
    maintain(small)
    with pytest.raises(Exception, match=r"(?i)not found|no such file"):
        read_table(dataset, "scenario_features", days=DAYS[:2], version=version)


def test_a_dry_run_lists_what_goes_with_its_bytes_and_a_second_run_has_nothing_to_do(
    dataset: DatasetSpec, caplog: pytest.LogCaptureFixture
) -> None:
    small = spec(runs_days=3, features_days=5)
    before = list(hash_lake(dataset, table_names(), []))
    maintain(small, dry_run=True)
    assert list(hash_lake(dataset, table_names(), [])) == before
    assert f"run shared_bottom-{DAYS[4]}-x: 400 bytes to delete" in caplog.text
    assert f"shared_instance_masks of {DAYS[0]}" in caplog.text
    assert maintain_tables.retain(small, find_needed(small), 0, dry_run=True)[0].bytes == 400
    maintain(small)
    assert maintain_tables.retain(small, find_needed(small), 0) == []


def test_files_of_a_killed_removal_go_once_they_are_old(dataset: DatasetSpec) -> None:
    orphan = artifacts_dir(dataset) / "runs" / "shared_bottom-2026-01-01-gone"
    orphan.mkdir()
    (orphan / "weights.pt").write_bytes(b"x")
    for path in (orphan / "weights.pt", orphan):
        os.utime(path, (0, 0))
    maintain_tables.retain(spec(), find_needed(dataset), 1)
    assert orphan.exists(), "without runs_days nothing of runs is removed"
    maintain_tables.retain(spec(runs_days=30), find_needed(dataset), 1)
    assert not orphan.exists()


def test_a_run_whose_files_lie_elsewhere_stops_everything(dataset: DatasetSpec) -> None:
    write_rows(dataset, [training_run(str(DAYS[3]), checkpoint_uri="../../../weights.pt")])
    with pytest.raises(TableError, match="nothing was removed"):
        maintain(spec(runs_days=3))
    assert recorded(dataset) == days(*DAYS[3:])


def test_features_must_stay_as_long_as_training_and_search_read_them() -> None:
    with pytest.raises(ValidationError, match=r"retain\.features_days 4 is below 5"):
        spec(features_days=4)


def test_runs_are_listed_and_unknown_ones_named(dataset: DatasetSpec, capsys: pytest.CaptureFixture[str]) -> None:
    ask(dataset, runs.Keep(run=f"shared_bottom-{DAYS[5]}-x", reason="why not"))
    ask(dataset, runs.List())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("is kept: why not") and lines[1].split()[0] == "run"
    assert next(line for line in lines if "yes (why not)" in line).startswith(f"shared_bottom-{DAYS[5]}-x")
    with pytest.raises(TableError, match=r"has no run 'nobody'; choose one of: .*jobs\.runs --dataset tiny list"):
        ask(dataset, runs.Keep(run="nobody"))
    assert [row.reason for row in read_rows(dataset, KeptRun)] == ["why not"]
