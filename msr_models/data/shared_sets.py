"""Look shared-instance sets up as of a day: a day D may use a set only when its window ends before D."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from msr_models.data import lake_reader
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError

_COLUMNS = [
    "shared_set_id",
    "dataset",
    "window_start",
    "window_end",
    "source_backbone",
    "threshold",
    "vocabulary_version",
    "selector_uri",
    "selector_sha256",
    "status",
    "status_reason",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedSet:
    """What a reader needs of a row of `shared_instance_sets`."""

    shared_set_id: str
    dataset: str
    window_start: date
    window_end: date
    source_backbone: str
    threshold: float
    vocabulary_version: str
    selector_uri: str
    selector_sha256: str
    status: str
    status_reason: str

    @property
    def lineage(self) -> str:
        """Lineage of the vocabularies that the selector knows."""
        return self.vocabulary_version.rpartition("-")[2]


def shared_sets(dataset: DatasetSpec) -> list[SharedSet]:
    """All sets of the data set, oldest window first; none where no search was ever run."""
    if not lake_reader.table_exists(dataset.name, "shared_instance_sets"):
        return []
    rows = lake_reader.read_table(dataset.name, "shared_instance_sets", columns=_COLUMNS).to_pylist()
    return sorted(map(_parse, rows), key=lambda s: (s.window_end, s.window_start, s.shared_set_id))


def find_shared_set(dataset: DatasetSpec, ds: date) -> SharedSet | None:
    """The newest accepted set of the data set's lineage whose window ends before `ds`.

    Ties go to the later window start, then to the greater id: never to a clock, so that a backfill finds the same set.
    """
    fitting = [
        s
        for s in shared_sets(dataset)
        if s.status == "accepted" and s.window_end < ds and s.lineage == dataset.lineage and s.dataset == dataset.name
    ]
    return fitting[-1] if fitting else None


def get_shared_set(dataset: DatasetSpec, shared_set_id: str, ds: date | None = None) -> SharedSet:
    """The set of this id, checked for use on `ds` (no day: compatibility only).

    Raises SharedSetError where it is unknown, not accepted, of another data set or lineage, or not older than `ds`.
    """
    known = {s.shared_set_id: s for s in shared_sets(dataset)}
    if shared_set_id not in known:
        listed = ", ".join(known) or "none; run: python -m jobs.search_shared_instances"
        raise SharedSetError(
            f"shared set {shared_set_id!r} is not in {dataset.name}/shared_instance_sets; known: {listed}"
        )
    found = known[shared_set_id]
    if found.dataset != dataset.name or found.lineage != dataset.lineage:
        raise SharedSetError(
            f"shared set {shared_set_id} was searched in {found.dataset!r} with vocabulary lineage {found.lineage!r}; "
            f"data set {dataset.name!r} has lineage {dataset.lineage!r}: search a new set"
        )
    if found.status == "rejected":
        raise SharedSetError(f"shared set {shared_set_id} was rejected ({found.status_reason}); use an accepted one")
    if ds is not None and found.window_end >= ds:
        raise SharedSetError(
            f"shared set {shared_set_id} was searched in days up to {found.window_end}, which {ds} must not see; "
            "use a set whose window ends earlier"
        )
    return found


def _parse(row: dict[str, Any]) -> SharedSet:
    days = {key: date.fromisoformat(row[key]) for key in ("window_start", "window_end")}
    return SharedSet(**(row | days))
