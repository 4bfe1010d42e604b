"""Remove what the YAML's `retain` lets go, compact small files, and delete the files that no version in use needs.

`retain` counts days back from the newest published one: of runs, their predictions and weights, and of feature days.
Kept runs (jobs.runs), those that they start from and each model's newest trained day stay.

Kept whatever their age: the table versions that a training run's manifest or a shared-instance set names, so that both
can be repeated. The log of a table with such versions is kept as long (delta.logRetentionDuration), or they could not
be opened. Deleted are only files that were replaced longer than --retention-hours ago, what killed writers left, and
saved states (_artifacts/resume) of trainings that were interrupted that long ago and never resumed: those of a run that
is tried again are younger. Running it again at once changes nothing.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from pydantic import Field

from jobs.cli import StepArgs, StepOptions, run_step
from jobs.maintenance.needed import Needed, find_needed, pinned_versions
from jobs.maintenance.retention import Removal, apply_retention, remove_orphans
from jobs.maintenance.vocabulary_base import fold_vocabulary
from lake.foreign import is_unwritable, naming_unwritable_features
from lake.locations import artifacts_dir, table_uri
from lake.reader import open_table, table_exists
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.tables import table_names

log = logging.getLogger(__name__)

GROUP = "operators"
LOG_RETENTION_KEY = "delta.logRetentionDuration"
LOG_RETENTION = "interval 3650 days"


class MaintainOptions(StepOptions):
    """Options of this step."""

    retention_hours: int = Field(
        default=168,
        ge=0,
        le=1_000_000,
        title="HOURS",
        description="keep files that were replaced less than this long ago; 0 only while no step runs",
    )
    dry_run: bool = Field(default=False, description="log what would be deleted, change nothing")


@dataclass(frozen=True, kw_only=True)
class Maintained:
    """What was done to one table: files and bytes of its newest version, deleted files and pinned versions."""

    table: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    deleted: int
    pinned: int


def maintain_table(
    dataset: DatasetSpec, table: str, *, pinned: set[int], retention_hours: int, dry_run: bool = False
) -> Maintained:
    """Compact and vacuum one table; with `dry_run` count what would be deleted and change nothing."""
    delta, uri = open_table(dataset, table), table_uri(dataset, table)
    files_before, bytes_before = _size(delta)
    with naming_unwritable_features(uri):
        if not dry_run:
            _keep_log(delta, pinned)
            _compact(delta)
        kept = sorted(v for v in pinned if v <= delta.version())
        deleted = _vacuum(delta, uri, kept, retention_hours, dry_run=dry_run)
    files_after, bytes_after = _size(open_table(dataset, table))
    return Maintained(
        table=table,
        files_before=files_before,
        files_after=files_after,
        bytes_before=bytes_before,
        bytes_after=bytes_after,
        deleted=deleted,
        pinned=len(pinned),
    )


def remove_stale_states(folder: Path, retention_hours: int, *, dry_run: bool = False) -> tuple[int, int]:
    """Delete states to resume from, whole or half-written, that are older; returns (files, bytes) of those.

    A state only saves time: without one a run starts at its beginning and ends in the same weights.
    """
    before = time.time() - retention_hours * 3600
    stale = []
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        try:
            found = path.stat()
        except FileNotFoundError:  # its run was published meanwhile
            continue
        if ".pt" in path.suffixes and found.st_mtime < before:
            stale.append(found.st_size)
            if not dry_run:
                path.unlink(missing_ok=True)
    return len(stale), sum(stale)


def retain(dataset: DatasetSpec, needed: Needed, retention_hours: int, *, dry_run: bool = False) -> list[Removal]:
    """Remove what the YAML's `retain` lets go; with `dry_run` only list it."""
    removals = apply_retention(dataset, needed, dry_run=dry_run)
    first = needed.first_day(dataset.retain.features_days)
    if first is not None:
        folded = fold_vocabulary(dataset, date.fromisoformat(first), dry_run=dry_run)
        removals += [folded] if folded else []
    return removals + remove_orphans(dataset, needed, retention_hours, dry_run=dry_run)


def step(args: StepArgs[MaintainOptions]) -> None:
    """Maintain all tables of the data set, then the saved states of trainings."""
    dataset, hours, dry_run = args.dataset, args.options.retention_hours, args.options.dry_run
    verb = "to delete" if dry_run else "deleted"
    tables = [t for t in table_names() if table_exists(dataset, t)]
    if not tables:
        # No error: the schedule may come before the first day
        log.warning(f"data set {dataset.name} has no tables yet: nothing to do. Were there some, check MSR_LAKE_ROOT")
        return
    needed = find_needed(dataset)
    expired = {run.run_id for run in needed.expired_runs(dataset.retain.runs_days)}
    staying = replace(needed, runs=[run for run in needed.runs if run.run_id not in expired])
    pinned = pinned_versions(dataset, staying)  # before anything is removed: it refuses what it cannot read
    for removal in retain(dataset, needed, hours, dry_run=dry_run):
        log.info(f"{removal.what}: {removal.bytes:,} bytes {verb}")
    for table in tables:
        done = maintain_table(dataset, table, pinned=pinned.get(table, set()), retention_hours=hours, dry_run=dry_run)
        log.info(
            f"{table}: files {done.files_before} -> {done.files_after}, {done.bytes_before / 1e6:.1f} MB -> "
            f"{done.bytes_after / 1e6:.1f} MB, {done.deleted} old files {verb}, {done.pinned} versions pinned"
        )
    try:
        folder = artifacts_dir(dataset) / "resume"
    except TableError as error:
        log.warning(f"states of interrupted trainings: left as they are ({error})")
        return
    files, size = remove_stale_states(folder, hours, dry_run=dry_run)
    log.info(f"states of interrupted trainings: {files} old files ({size / 1e6:.1f} MB) {verb}")


def _keep_log(delta: DeltaTable, pinned: set[int]) -> None:
    if pinned and delta.metadata().configuration.get(LOG_RETENTION_KEY) != LOG_RETENTION:
        delta.alter.set_table_properties({LOG_RETENTION_KEY: LOG_RETENTION})


def _compact(delta: DeltaTable) -> None:
    try:
        delta.optimize.compact()
    except CommitFailedError as error:  # a step wrote meanwhile: its write counts, the next maintenance compacts
        if is_unwritable(error):
            raise
        log.info(f"{delta.table_uri}: not compacted, another writer was faster ({error})")


def _vacuum(delta: DeltaTable, uri: str, keep: list[int], retention_hours: int, *, dry_run: bool) -> int:
    """Delete files that no kept version needs, those of killed writers too; returns their number.

    The log names files long after they were deleted: only existing ones count, and without any nothing is committed.
    uri: the table's location as a plain path (deltalake's own is percent-encoded), or remote.
    """

    def vacuum(*, dry_run: bool) -> list[str]:
        return delta.vacuum(
            retention_hours, dry_run=dry_run, enforce_retention_duration=False, full=True, keep_versions=keep
        )

    unneeded = vacuum(dry_run=True)
    if "://" not in uri:
        unneeded = [name for name in unneeded if Path(uri, name).exists()]
    if unneeded and not dry_run:
        vacuum(dry_run=False)
    return len(unneeded)


def _size(delta: DeltaTable) -> tuple[int, int]:
    """(files, bytes) of the table's version."""
    sizes = pa.table(delta.get_add_actions(flatten=True))["size_bytes"]
    return len(sizes), pc.sum(sizes).as_py() or 0


if __name__ == "__main__":
    run_step(__doc__, step, MaintainOptions, needs_days=False)
