"""List the published days whose log files changed after they were ingested, and what is built from older rows.

Files are compared by size and time, and where these differ by content. --reingest ingests such days again, and builds
behaviour_sequences and scenario_features again of every day whose impressions have changed since. Days: all published
ones, or --ds, --from and --to.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date

from pydantic import Field

from jobs.cli import StepArgs, StepOptions, run_step
from lake.audits import days_with_passed_audit
from lake.provenance import IMPRESSIONS, stale_days
from lake.reader import published_days
from lake.rows import read_rows
from lake.source_state import changed_files, from_json, source_states
from schemas.commands import command, day_options
from schemas.dataset_spec import DatasetSpec
from schemas.tables.audits import Audit

log = logging.getLogger(__name__)

GROUP = "operators"
BUILT = ("behaviour_sequences", "scenario_features")


class CheckOptions(StepOptions):
    """Options of this command."""

    reingest: bool = Field(default=False, description="ingest changed days again and build what is stale again")


def changed_days(dataset: DatasetSpec, days: Sequence[date]) -> dict[date, list[str]]:
    """Ingested day -> what happened to its files since; only days with changes."""
    audits = read_rows(dataset, Audit, days=days, filters={"table_name": IMPRESSIONS})
    changed: dict[date, list[str]] = {}
    for audit in sorted(audits, key=lambda audit: audit.ds):
        before = from_json(audit.source_files) if audit.source_files else {}
        if lines := changed_files(before, source_states(dataset, date.fromisoformat(audit.ds), before)):
            changed[date.fromisoformat(audit.ds)] = lines
    return changed


def stale_tables(dataset: DatasetSpec, days: Sequence[date]) -> dict[str, list[date]]:
    """Table -> its published days among `days` that were built from rows or settings that have changed since."""
    found = {table: sorted(set(days) & published_days(dataset, table)) for table in BUILT}
    stale = {table: [s.ds for s in stale_days(dataset, table, of_table)] for table, of_table in found.items()}
    return {table: of_table for table, of_table in stale.items() if of_table}


def step(args: StepArgs[CheckOptions]) -> None:
    """Compare, tell, and on request make anew."""
    dataset = args.dataset
    ingested = sorted(published_days(dataset, IMPRESSIONS) | days_with_passed_audit(dataset, IMPRESSIONS, args.days))
    days = [day for day in args.days if day in ingested] if args.days else ingested
    changed = changed_days(dataset, days)
    for day, lines in changed.items():
        log.warning(f"{dataset.name} {day}: {'; '.join(lines)}")
    if args.options.reingest:
        _make_anew(dataset, sorted(changed), days)
        return
    if changed:
        log.warning(f"ingest them again: {command('ingest_impressions', dataset, day_options(sorted(changed)))}")
    stale = stale_tables(dataset, ingested)
    for table, of_table in stale.items():
        again = command(f"build_{table}", dataset, day_options(of_table))
        which = ", ".join(map(str, of_table))
        log.warning(f"{table} of {which}: built from rows or settings that have changed since; run {again}")
    if not (changed or stale):
        log.info(f"{dataset.name}: {len(days)} ingested days, no file has changed and nothing is stale")


def _make_anew(dataset: DatasetSpec, changed: list[date], days: list[date]) -> None:
    from jobs.building.days import for_each_feature_day
    from jobs.building.features import build_day
    from jobs.building.impressions import ingest_days
    from jobs.building.sequences import build_sequences
    from lake.spark_session import get_session

    if changed:
        ingest_days(get_session(f"check_sources {dataset.name}"), dataset, changed)
    every = sorted(published_days(dataset, IMPRESSIONS))
    work = {"behaviour_sequences": build_sequences, "scenario_features": build_day}
    for table in BUILT:
        if stale := stale_tables(dataset, every).get(table):
            for_each_feature_day("check_sources", dataset, stale, work[table])
    log.info(f"{dataset.name}: {len(changed)} of {len(days)} days ingested again, and what was built from them")


if __name__ == "__main__":
    run_step(__doc__, step, CheckOptions, needs_days=False)
