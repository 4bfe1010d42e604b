"""Maintenance deletes what nothing needs, and never a version that a manifest or a set names."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs import maintain_tables
from jobs.hash_tables import hash_lake
from jobs.maintain_tables import (
    LOG_RETENTION,
    LOG_RETENTION_KEY,
    maintain_table,
    remove_stale_states,
)
from jobs.maintenance.needed import pinned_versions
from lake.arrow_writer import overwrite_partition
from lake.locations import artifacts_dir
from lake.reader import open_table, read_table, table_version
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.load_dataset import load_dataset
from tests.support.report_lake import training_run, write_run
from tests.support.steps import run_step

GENERATED = load_dataset("generated")
QUARANTINE = "quarantine"
DAY = "2026-01-03"


def write(detail: str) -> int:
    """Overwrite the day; returns the version that holds it."""
    rows = pa.table({"ds": [DAY], "reason": ["r"], "detail": [detail], "raw_record": ["{}"], "source": ["s"]})
    overwrite_partition(rows, GENERATED, QUARANTINE, {"ds": DAY})
    return table_version(GENERATED, QUARANTINE)


def details(version: int) -> list[str]:
    return read_table(GENERATED, QUARANTINE, columns=["detail"], version=version)["detail"].to_pylist()


def test_a_pinned_version_survives_and_an_unpinned_one_goes(lake: Path) -> None:
    unpinned, pinned, tested, newest = write("first"), write("second"), write("third"), write("fourth")
    write_run(
        GENERATED, training_run(DAY, table_versions={QUARANTINE: pinned}, test_table_versions={QUARANTINE: tested})
    )
    before = list(hash_lake(GENERATED, [QUARANTINE], []))
    kept = pinned_versions(GENERATED)
    assert kept == {QUARANTINE: {pinned, tested}}

    done = maintain_table(GENERATED, QUARANTINE, pinned=kept[QUARANTINE], retention_hours=0)

    assert done.deleted == 1
    assert [*details(pinned), *details(tested), *details(newest)] == ["second", "third", "fourth"]
    with pytest.raises(Exception, match=r"(?i)not found|no such file"):
        details(unpinned)
    assert list(hash_lake(GENERATED, [QUARANTINE], [])) == before
    assert open_table(GENERATED, QUARANTINE).metadata().configuration[LOG_RETENTION_KEY] == LOG_RETENTION


@pytest.mark.parametrize("name", ["a lake", "50% off", "größe", "a#b?c", "a+b&c", "a*b"])
def test_odd_characters_in_the_lakes_path_keep_nothing_alive(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / name))
    unneeded, newest = write("first"), write("second")
    before = list(hash_lake(GENERATED, [QUARANTINE], []))
    done = maintain_table(GENERATED, QUARANTINE, pinned=set(), retention_hours=0)
    assert done.deleted == 1 and details(newest) == ["second"]
    with pytest.raises(Exception, match=r"(?i)not found|no such file"):
        details(unneeded)
    assert list(hash_lake(GENERATED, [QUARANTINE], [])) == before
    assert len(list((tmp_path / name).rglob("*.parquet"))) == 1


def test_recent_versions_stay_within_the_retention(lake: Path) -> None:
    first = write("first")
    write("second")
    assert maintain_table(GENERATED, QUARANTINE, pinned=set(), retention_hours=1).deleted == 0
    assert details(first) == ["first"]


def test_a_dry_run_changes_nothing(lake: Path) -> None:
    first, second = write("first"), write("second")
    done = maintain_table(GENERATED, QUARANTINE, pinned=set(), retention_hours=0, dry_run=True)
    assert done.deleted == 1
    assert details(first) == ["first"] and table_version(GENERATED, QUARANTINE) == second


def test_small_files_are_compacted_and_a_second_run_does_nothing(lake: Path) -> None:
    write("first")
    table = open_table(GENERATED, QUARANTINE)
    rows = table.to_pyarrow_table()
    for _ in range(3):
        write_deltalake(table.table_uri, rows, mode="append")
    before = list(hash_lake(GENERATED, [QUARANTINE], []))
    done = maintain_table(GENERATED, QUARANTINE, pinned=set(), retention_hours=0)
    assert (done.files_before, done.files_after) == (4, 1)
    assert list(hash_lake(GENERATED, [QUARANTINE], [])) == before
    again = maintain_table(GENERATED, QUARANTINE, pinned=set(), retention_hours=0)
    assert (again.files_before, again.files_after, again.deleted) == (1, 1, 0)


def test_a_killed_writers_file_goes_once_it_is_old(lake: Path) -> None:
    write("first")
    folder = next((lake / "generated" / QUARANTINE).glob("ds=*"))
    orphan = folder / "part-orphan.parquet"
    orphan.write_bytes(b"half a file")
    assert maintain_table(GENERATED, QUARANTINE, pinned=set(), retention_hours=1).deleted == 0 and orphan.exists()
    os.utime(orphan, (0, 0))
    assert maintain_table(GENERATED, QUARANTINE, pinned=set(), retention_hours=1).deleted == 1 and not orphan.exists()


def test_states_of_trainings_that_never_went_on_go_once_they_are_old(lake: Path) -> None:
    write("first")
    folder = artifacts_dir(GENERATED) / "resume"
    folder.mkdir(parents=True)
    old, partial, young, other = (
        folder / name for name in ("old.pt", f".old.pt.{uuid.uuid4().hex}", "new.pt", "notes")
    )
    for path in (old, partial, young, other):
        path.write_bytes(b"state")
    for path in (old, partial, other):
        os.utime(path, (0, 0))
    assert remove_stale_states(folder, 1, dry_run=True) == (2, 10) and old.exists()
    run = [sys.executable, "-m", "jobs.maintain_tables", "--dataset", "generated", "--retention-hours", "1"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert "states of interrupted trainings: 2 old files (0.0 MB) deleted" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["new.pt", "notes"]
    assert remove_stale_states(folder, 1) == remove_stale_states(lake / "none", 1) == (0, 0)


def test_a_remote_lake_without_a_folder_for_files_is_maintained_all_the_same(
    lake: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write("first")
    monkeypatch.setattr(maintain_tables, "artifacts_dir", _no_folder)
    run_step(maintain_tables, GENERATED, options=maintain_tables.MaintainOptions(retention_hours=1))
    assert "left as they are (set MSR_ARTIFACTS_DIR)" in caplog.text


def test_a_schedule_that_comes_before_the_first_day_finds_nothing_to_do(
    lake: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_step(maintain_tables, GENERATED, options=maintain_tables.MaintainOptions(retention_hours=1))
    assert "no tables yet: nothing to do" in caplog.text


def _no_folder(_: DatasetSpec) -> Path:
    raise TableError("set MSR_ARTIFACTS_DIR")


def test_an_unreadable_manifest_stops_everything(lake: Path) -> None:
    write_run(GENERATED, training_run(DAY, manifest="{}"))
    with pytest.raises(TableError, match="nothing was deleted"):
        pinned_versions(GENERATED)


def test_the_command_reports_every_table(lake: Path) -> None:
    write("first")
    write("second")
    command = [sys.executable, "-m", "jobs.maintain_tables", "--dataset", "generated", "--retention-hours", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "quarantine: files 1 -> 1" in done.stdout and "1 old files deleted" in done.stdout
    wrong = subprocess.run([*command[:-1], "-1"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr) == (2, "error: --retention-hours -1: must be 0 or more\n")
