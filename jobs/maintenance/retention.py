"""Apply a data set's `retain` block. Rows go before files, so that a kill leaves no row without its files.

A function of tables, files and the YAML: no clock decides, and running it again at once removes nothing.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from jobs.maintenance.needed import Needed
from lake.locations import artifact_path, artifacts_dir
from lake.reader import open_table, table_exists
from lake.retry import commit_with_retries
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.tables.training_runs import TrainingRun

FEATURE_TABLES = ("scenario_features", "behaviour_sequences", "shared_instance_masks")
RUN_TABLES = ("training_runs", "evaluations", "further_evaluations", "gains")


@dataclass(frozen=True, kw_only=True)
class Removal:
    """One thing to remove, in words, and its bytes."""

    what: str
    bytes: int


def apply_retention(dataset: DatasetSpec, needed: Needed, *, dry_run: bool) -> list[Removal]:
    """Remove what `dataset.retain` lets go; with `dry_run` only list it."""
    retain = dataset.retain
    expired = needed.expired_runs(retain.runs_days)
    gone = {run.run_id for run in expired}
    removals = [*_runs(dataset, expired)]
    if expired and not dry_run:
        _delete_rows(dataset, expired)
        for folder in _folders(dataset, expired):
            shutil.rmtree(folder, ignore_errors=True)
    for what, days, names in (
        ("predictions", retain.predictions_days, ("predictions.parquet",)),
        ("weights", retain.checkpoints_days, ("weights.pt", "weights.json")),
    ):
        runs = [run for run in needed.expired_runs(days) if run.run_id not in gone]
        for run, files in _files(dataset, runs, names):
            removals.append(Removal(what=f"{what} of run {run.run_id}", bytes=sum(f.stat().st_size for f in files)))
            for file in files if not dry_run else ():
                file.unlink(missing_ok=True)
    first = needed.first_day(retain.features_days)
    if first is not None:
        for table in FEATURE_TABLES:
            removals += _remove_days(dataset, table, first, dry_run=dry_run)
    return removals


def remove_orphans(dataset: DatasetSpec, needed: Needed, retention_hours: int, *, dry_run: bool) -> list[Removal]:
    """Folders of runs that no row names, as a killed retention or a killed training leaves them, once they are old."""
    if dataset.retain.runs_days is None:
        return []
    before = time.time() - retention_hours * 3600
    recorded = {run.run_id for run in needed.runs}
    removals = []
    for folder in sorted((artifacts_dir(dataset) / "runs").glob("*")):
        if folder.name not in recorded and folder.is_dir() and folder.stat().st_mtime < before:
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            removals.append(Removal(what=f"files of {folder.name}, which is no recorded run", bytes=size))
            if not dry_run:
                shutil.rmtree(folder, ignore_errors=True)
    return removals


def _runs(dataset: DatasetSpec, runs: Sequence[TrainingRun]) -> Iterator[Removal]:
    for run, folder in zip(runs, _folders(dataset, runs), strict=True):
        files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
        yield Removal(what=f"run {run.run_id}", bytes=sum(path.stat().st_size for path in files))


def _folders(dataset: DatasetSpec, runs: Sequence[TrainingRun]) -> list[Path]:
    """Folders of the runs' files."""
    if not runs:
        return []
    folders = [artifact_path(dataset, run.checkpoint_uri).parent for run in runs]
    root = artifacts_dir(dataset)
    for run, folder in zip(runs, folders, strict=True):
        if root not in folder.parents or folder.name != run.run_id:
            raise TableError(
                f"{run.table}: run {run.run_id!r} names weights {run.checkpoint_uri!r}, which do not lie in a folder "
                f"of its own below {root}; nothing was removed: fix or remove that row first"
            )
    return folders


def _files(
    dataset: DatasetSpec, runs: Sequence[TrainingRun], names: Sequence[str]
) -> Iterator[tuple[TrainingRun, list[Path]]]:
    """Runs that have some of the files, with those."""
    for run, folder in zip(runs, _folders(dataset, runs), strict=True):
        found = [folder / name for name in names if (folder / name).is_file()]
        if found:
            yield run, found


def _delete_rows(dataset: DatasetSpec, runs: Sequence[TrainingRun]) -> None:
    """Metrics first: a row of training_runs is what makes the next maintenance find the run again."""
    ids = ", ".join(f"'{run.run_id}'" for run in runs)
    for table in reversed(RUN_TABLES):
        if table_exists(dataset, table):
            _delete(dataset, table, f"run_id IN ({ids})")


def _remove_days(dataset: DatasetSpec, table: str, first: str, *, dry_run: bool) -> list[Removal]:
    if not table_exists(dataset, table):
        return []
    size_of = _bytes_of_days(open_table(dataset, table))
    old = {ds: size for ds, size in sorted(size_of.items()) if ds < first}
    if old and not dry_run:
        _delete(dataset, table, "ds IN ({})".format(", ".join(f"'{ds}'" for ds in old)))
    return [Removal(what=f"{table} of {ds}", bytes=size) for ds, size in old.items()]


def _bytes_of_days(delta: DeltaTable) -> dict[str, int]:
    files = pa.table(delta.get_add_actions(flatten=True))
    sizes: dict[str, int] = defaultdict(int)
    days = files.column("partition.ds").to_pylist() if files.num_rows else []
    for ds, size in zip(days, files["size_bytes"].to_pylist(), strict=True):
        sizes[str(ds)] += size
    return sizes


def _delete(dataset: DatasetSpec, table: str, predicate: str) -> None:
    def commit() -> None:
        open_table(dataset, table).delete(predicate)

    commit_with_retries(commit, lambda error: isinstance(error, CommitFailedError))
