"""Which runs, sets and table versions must stay."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from lake.reader import published_days
from lake.rows import read_rows
from msr_models.sets.catalogue import read_catalogue
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError, TableError
from schemas.tables.kept_runs import KeptRun
from schemas.tables.shared_instance_sets import SharedSet
from schemas.tables.training_runs import TrainingRun

# Keys of a manifest that name the table versions which a run read
MANIFEST_KEYS: tuple[str, ...] = ("table_versions", "test_table_versions")


@dataclass(frozen=True, kw_only=True)
class Needed:
    """newest: the newest published day; runs: all recorded ones; kept: ids of those that stay whatever their age."""

    newest: date | None
    runs: Sequence[TrainingRun]
    kept: frozenset[str]

    def first_day(self, days: int | None) -> str | None:
        """The first of `days` days up to the newest one, which are to stay; None: all stay."""
        return None if days is None or self.newest is None else str(self.newest - timedelta(days=days - 1))

    def expired_runs(self, days: int | None) -> list[TrainingRun]:
        """Runs before the `days` days that are to stay, except kept ones."""
        first = self.first_day(days)
        return [] if first is None else [r for r in self.runs if r.ds < first and r.run_id not in self.kept]


def find_needed(dataset: DatasetSpec) -> Needed:
    """Kept stay: the runs marked so, the runs whose weights these start from, and each model's newest trained day,
    from which the next one starts.
    """
    runs = read_rows(dataset, TrainingRun)
    marked = {row.run_id for row in read_rows(dataset, KeptRun)}
    newest_of = {model: max(r.ds for r in runs if r.model == model) for model in {r.model for r in runs}}
    predecessors = {_predecessor(r) for r in runs if r.run_id in marked} - {None}
    last = {r.run_id for r in runs if r.ds == newest_of[r.model]}
    days = published_days(dataset, "impressions") | published_days(dataset, "scenario_features")
    return Needed(
        newest=max(days | {date.fromisoformat(ds) for ds in newest_of.values()}, default=None),
        runs=sorted(runs, key=lambda r: (r.ds, r.model, r.ratio)),
        kept=frozenset(marked | {str(p) for p in predecessors} | last),
    )


def pinned_versions(dataset: DatasetSpec, needed: Needed | None = None) -> dict[str, set[int]]:
    """Table -> versions that must stay readable: those that manifests of runs and shared-instance sets name.

    Where retain.features_days removes feature days, only of kept runs, of runs whose days all stay, and of sets that
    these or the next day use. Raises TableError where a version cannot be read: one that might be pinned must stay.
    """
    needed = needed or find_needed(dataset)
    first = needed.first_day(dataset.retain.features_days)
    runs = [r for r in needed.runs if first is None or r.run_id in needed.kept or _days_stay(r, first)]
    sets = read_rows(dataset, SharedSet)
    if first is not None:
        in_use = {r.shared_set_id for r in runs} | _next_sets(dataset, needed.newest)
        sets = [s for s in sets if s.window_start >= first or s.shared_set_id in in_use]
    pinned: dict[str, set[int]] = defaultdict(set)
    for place, text, keys in _texts(runs, sets):
        try:
            named = json.loads(text)
            for versions in [named[key] for key in keys] or [named]:
                for table, version in versions.items():
                    pinned[table].add(int(version))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise TableError(
                f"{place} names no table versions ({error!r}); nothing was deleted: fix or remove that row first"
            ) from error
    return dict(pinned)


def _texts(runs: Iterable[TrainingRun], sets: Iterable[SharedSet]) -> list[tuple[str, str, tuple[str, ...]]]:
    """(place, JSON, keys in it) of what names table versions."""
    texts = [(f"{r.table}.manifest of {r.run_id!r}", r.manifest, MANIFEST_KEYS) for r in runs]
    return texts + [(f"{s.table}.table_versions of {s.shared_set_id!r}", s.table_versions, ()) for s in sets]


def _days_stay(run: TrainingRun, first: str) -> bool:
    days = [*_manifest(run).get("train_days", []), *_manifest(run).get("validation_days", []), run.ds]
    return bool(min(days) >= first)


def _predecessor(run: TrainingRun) -> str | None:
    before = _manifest(run).get("predecessor")
    return before["run_id"] if before else None


def _manifest(run: TrainingRun) -> dict[str, Any]:
    try:
        named = json.loads(run.manifest)
    except ValueError:
        named = {}
    return named if isinstance(named, dict) else {}


def _next_sets(dataset: DatasetSpec, newest: date | None) -> set[str | None]:
    """The sets that the newest day and the one after it use."""
    if newest is None:
        return set()
    catalogue = read_catalogue(dataset)
    found: set[str | None] = set()
    for ds in (newest, newest + timedelta(days=1)):
        try:
            used = catalogue.find(ds)
        except SharedSetError:  # its pin cannot be used, as training will say
            used = catalogue.newest(ds)
        found |= {used.shared_set_id} if used else set()
    return found
