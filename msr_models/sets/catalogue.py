"""Which shared-instance set does a day use? `Catalogue.find` answers: the pinned set, or else the newest usable one.

A day D may use a set only when the set's window ends before D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from lake.rows import read_rows
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.pipeline_spec import SearchSpec
from schemas.provenance import appends
from schemas.tables.shared_instance_pins import Pin
from schemas.tables.shared_instance_sets import SharedSet


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """A snapshot of a data set's sets (ordered by `newness`) and pins (earliest first).

    search: the settings that searches would use; among sets with the same window end, those searched with them win.
    """

    dataset: DatasetSpec
    search: SearchSpec
    sets: Sequence[SharedSet]
    pins: Sequence[Pin]

    def pin_on(self, ds: date) -> Pin | None:
        """The pin in force on `ds`; None where the newest set is used."""
        started = [pin for pin in self.pins if pin.first_day <= ds]
        return started[-1] if started and started[-1].shared_set_id is not None else None

    def newest(self, ds: date) -> SharedSet | None:
        """The newest usable set whose window ends before `ds`, regardless of pins."""
        earlier = [s for s in self._usable() if s.last_day < ds]
        return earlier[-1] if earlier else None

    def newness(self, found: SharedSet) -> tuple[date, bool, date, int, str]:
        """Sort key, newest last; a function of the tables' content alone, so that a backfill finds the same set.

        The later window end is newer. Among sets with the same window end, the one searched with the current settings
        wins, so that another seed or setting can be tried without taking effect; then the later window start, then the
        later version of scenario_features (a search repeated after a correction), then the id.
        """
        is_current = found.is_searched_with(self.search)
        return found.last_day, is_current, found.first_day, found.features_version, found.shared_set_id

    def ties(self) -> list[list[SharedSet]]:
        """Groups of usable sets with the same window end; the one in use comes last in each."""
        usable = self._usable()
        groups = [[s for s in usable if s.last_day == end] for end in sorted({s.last_day for s in usable})]
        return [group for group in groups if len(group) > 1]

    def find(self, ds: date) -> SharedSet | None:
        """The set that `ds` uses: the one pinned for it, else the newest.

        Raises SharedSetError where the pinned set may not be used on `ds`.
        """
        pin = self.pin_on(ds)
        if pin is None or pin.shared_set_id is None:
            return self.newest(ds)
        try:
            return self.get(pin.shared_set_id, ds)
        except SharedSetError as error:
            unpin = command("shared_sets", self.dataset, "unpin", f"--from {pin.from_ds}")
            raise SharedSetError(
                f"{ds} cannot use the set that is pinned from {pin.from_ds} on: {error}; remove the pin: {unpin}"
            ) from error

    def get(self, shared_set_id: str, ds: date | None = None) -> SharedSet:
        """The set with this id, checked for use on `ds` (no day: on any).

        Raises SharedSetError where it is unknown, not accepted, of another data set or lineage, or not older than `ds`.
        """
        found = self.compatible(shared_set_id, ds)
        listing = command("shared_sets", self.dataset, "list")
        if found.status != "accepted":
            raise SharedSetError(
                f"shared set {shared_set_id} was {found.status} ({found.status_reason}); use an accepted one, see "
                f"{listing}"
            )
        if ds is not None and found.last_day >= ds:
            raise SharedSetError(
                f"shared set {shared_set_id} was searched in days up to {found.last_day}, which {ds} must not see; "
                f"use a set whose window ends earlier, see {listing}"
            )
        return found

    def compatible(self, shared_set_id: str, ds: date | None = None) -> SharedSet:
        """The set with this id, whatever its status.

        Raises SharedSetError where it is unknown or belongs to another data set or lineage, with the command that
        searches a new one for `ds`.
        """
        found = self.named(shared_set_id)
        if not self.is_compatible(found):
            search = command("search_shared_instances", self.dataset, f"--ds {ds or 'DAY'}")
            raise SharedSetError(
                f"shared set {shared_set_id} was searched in {found.dataset!r} with vocabulary lineage "
                f"{found.lineage!r} and scenarios {', '.join(found.scenario_names)}; data set {self.dataset.name!r} "
                f"has lineage {self.dataset.lineage!r} and scenarios {', '.join(self.dataset.scenario.names)}: search "
                f"a new set: {search}"
            )
        return found

    def named(self, shared_set_id: str) -> SharedSet:
        """The set with this id, whatever its status. Raises SharedSetError that lists the known ids."""
        known = {s.shared_set_id: s for s in self.sets}
        if shared_set_id not in known:
            search = command("search_shared_instances", self.dataset, "--ds DAY")
            raise SharedSetError(
                f"shared set {shared_set_id!r} is not in {self.dataset.name}/{SharedSet.table}; known: "
                f"{', '.join(known) or f'none; run: {search}'}"
            )
        return known[shared_set_id]

    def is_compatible(self, found: SharedSet) -> bool:
        """Whether the set belongs to this data set, its vocabularies and its scenarios, of which some may be newer."""
        is_own = found.dataset == self.dataset.name and found.lineage == self.dataset.lineage
        return is_own and appends(found.scenario_names, self.dataset.scenario.names)

    def _usable(self) -> list[SharedSet]:
        return [s for s in self.sets if s.status == "accepted" and self.is_compatible(s)]


def read_catalogue(dataset: DatasetSpec, search: SearchSpec | None = None) -> Catalogue:
    """All sets and pins of the data set; empty before the first search. search: default, the data set's own."""
    pins = sorted(read_rows(dataset, Pin), key=lambda pin: pin.from_ds)
    found = Catalogue(dataset=dataset, search=search or dataset.search, sets=read_rows(dataset, SharedSet), pins=pins)
    return replace(found, sets=sorted(found.sets, key=found.newness))


def find_shared_set(dataset: DatasetSpec, ds: date) -> SharedSet | None:
    """The set that `ds` uses: the one pinned for it, else the newest accepted one whose window ends before `ds`.

    Raises SharedSetError where the pinned set may not be used on `ds`.
    """
    return read_catalogue(dataset).find(ds)
