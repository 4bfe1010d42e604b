"""Look shared-instance sets up as of a day: a day D may use a set only when its window ends before D."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from pydantic import ValidationError

from lake import reader as lake_reader
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.pipeline_spec import SearchSpec

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
    "config",
    "table_versions",
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
    config: str
    table_versions: str
    status: str
    status_reason: str

    @property
    def lineage(self) -> str:
        """Lineage of the vocabularies that the selector knows."""
        return self.vocabulary_version.rpartition("-")[2]

    @property
    def features_version(self) -> int:
        """Version of scenario_features that was searched; -1 where the row does not say."""
        return int(json.loads(self.table_versions).get("scenario_features", -1))

    def is_searched_as(self, search: SearchSpec) -> bool:
        """Whether it was searched with these settings, but for when a search is due."""
        try:
            own = SearchSpec.model_validate_json(self.config)
        except ValidationError:
            return False  # of a version that knew other settings
        return own.model_dump(exclude={"every_days"}) == search.model_dump(exclude={"every_days"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """A row of `shared_instance_pins`: from this day on the set is used, or (None) the newest again."""

    from_ds: date
    shared_set_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """One reading of a data set's sets (in the order of `newness`) and pins (earliest first).

    search: the settings that sets are compared with, those of the data set unless an option replaces one.
    """

    dataset: DatasetSpec
    search: SearchSpec
    sets: Sequence[SharedSet]
    pins: Sequence[Pin]

    def pin_on(self, ds: date) -> Pin | None:
        """The pin in force on `ds`; None where the newest set is used."""
        begun = [pin for pin in self.pins if pin.from_ds <= ds]
        return begun[-1] if begun and begun[-1].shared_set_id is not None else None

    def newest(self, ds: date) -> SharedSet | None:
        """The newest accepted set of the data set's lineage whose window ends before `ds`, whatever is pinned.

        What is newer, `newness` says: never a clock, nor the order of searches, so that a backfill finds the same.
        """
        fitting = [s for s in self.sets if s.status == "accepted" and s.window_end < ds and self.is_compatible(s)]
        return fitting[-1] if fitting else None

    def newness(self, found: SharedSet) -> tuple[date, bool, date, int, str]:
        """The later window end is newer. Of sets of one window end: the one searched as the YAML says now, so that
        another seed or setting is tried out without being used; then the later start; then the one that read the later
        version of features, as after a correction; the id last.
        """
        as_now = found.is_searched_as(self.search)
        return found.window_end, as_now, found.window_start, found.features_version, found.shared_set_id

    def ties(self) -> list[list[SharedSet]]:
        """Accepted sets of the data set's lineage that share their window's end, the one that is used last."""
        fitting = [s for s in self.sets if s.status == "accepted" and self.is_compatible(s)]
        groups = [[s for s in fitting if s.window_end == end] for end in sorted({s.window_end for s in fitting})]
        return [group for group in groups if len(group) > 1]

    def find(self, ds: date) -> SharedSet | None:
        """The set that `ds` uses: the pinned one where one is pinned for it, else the newest.

        Raises SharedSetError where the pinned set may not be used on `ds`.
        """
        pin = self.pin_on(ds)
        if pin is None or pin.shared_set_id is None:
            return self.newest(ds)
        try:
            return self.get(pin.shared_set_id, ds)
        except SharedSetError as error:
            raise SharedSetError(
                f"{ds} cannot use the set that is pinned from {pin.from_ds} on: {error}; end the pin: python -m "
                f"jobs.shared_sets --dataset {self.dataset.name} unpin --from {pin.from_ds}"
            ) from error

    def get(self, shared_set_id: str, ds: date | None = None) -> SharedSet:
        """The set of this id, checked for use on `ds`; see `get_shared_set`."""
        name = self.dataset.name
        found = self.compatible(shared_set_id, ds)
        if found.status != "accepted":
            raise SharedSetError(
                f"shared set {shared_set_id} was {found.status} ({found.status_reason}); use an accepted one, see "
                f"python -m jobs.shared_sets --dataset {name} list"
            )
        if ds is not None and found.window_end >= ds:
            raise SharedSetError(
                f"shared set {shared_set_id} was searched in days up to {found.window_end}, which {ds} must not see; "
                f"use a set whose window ends earlier, see python -m jobs.shared_sets --dataset {name} list"
            )
        return found

    def compatible(self, shared_set_id: str, ds: date | None = None) -> SharedSet:
        """The set of this id whatever its status. Raises SharedSetError where it is unknown, or of another data set or
        lineage; the error names a search of `ds`.
        """
        name = self.dataset.name
        found = self.named(shared_set_id)
        if not self.is_compatible(found):
            raise SharedSetError(
                f"shared set {shared_set_id} was searched in {found.dataset!r} with vocabulary lineage "
                f"{found.lineage!r}; data set {name!r} has lineage {self.dataset.lineage!r}: search a new set with "
                f"python -m jobs.search_shared_instances --dataset {name} --ds {ds or 'DAY'}"
            )
        return found

    def named(self, shared_set_id: str) -> SharedSet:
        """The set of this id whatever its status. Raises SharedSetError, which lists the known ones, for another id."""
        known = {s.shared_set_id: s for s in self.sets}
        if shared_set_id not in known:
            listed = ", ".join(known) or (
                f"none; run: python -m jobs.search_shared_instances --dataset {self.dataset.name} --ds DAY"
            )
            raise SharedSetError(
                f"shared set {shared_set_id!r} is not in {self.dataset.name}/shared_instance_sets; known: {listed}"
            )
        return known[shared_set_id]

    def is_compatible(self, found: SharedSet) -> bool:
        """Whether the set is of this data set and its vocabularies."""
        return found.dataset == self.dataset.name and found.lineage == self.dataset.lineage


def read_catalogue(dataset: DatasetSpec, search: SearchSpec | None = None) -> Catalogue:
    """All sets and pins of the data set; none where no search was ever run. search: settings instead of its own."""
    sets = map(_parse, _rows(dataset, "shared_instance_sets", _COLUMNS))
    pins = [
        Pin(from_ds=date.fromisoformat(row["from_ds"]), shared_set_id=row["shared_set_id"])
        for row in _rows(dataset, "shared_instance_pins", ["from_ds", "shared_set_id"])
    ]
    found = Catalogue(
        dataset=dataset,
        search=search or dataset.search,
        sets=list(sets),
        pins=sorted(pins, key=lambda pin: pin.from_ds),
    )
    return replace(found, sets=sorted(found.sets, key=found.newness))


def find_shared_set(dataset: DatasetSpec, ds: date) -> SharedSet | None:
    """The set that `ds` uses: the one pinned for it, else the newest accepted one whose window ends before `ds`.

    A function of the tables' content. Raises SharedSetError where the pinned set may not be used on `ds`.
    """
    return read_catalogue(dataset).find(ds)


def get_shared_set(dataset: DatasetSpec, shared_set_id: str, ds: date | None = None) -> SharedSet:
    """The set of this id, checked for use on `ds` (no day: compatibility only).

    Raises SharedSetError where it is unknown, not accepted, of another data set or lineage, or not older than `ds`.
    """
    return read_catalogue(dataset).get(shared_set_id, ds)


def _rows(dataset: DatasetSpec, table: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    if not lake_reader.table_exists(dataset, table):
        return []
    rows: list[dict[str, Any]] = lake_reader.read_table(dataset, table, columns=columns).to_pylist()
    return rows


def _parse(row: dict[str, Any]) -> SharedSet:
    days = {key: date.fromisoformat(row[key]) for key in ("window_start", "window_end")}
    return SharedSet(**(row | days))
