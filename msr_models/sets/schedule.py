"""Which searches a training day relies on: the scheduled ones, and those that drift makes due in between.

Scheduled searches follow `DatasetSpec.search_day`. A search of the days before D is due by drift where scoring for D-1
flagged its newest day, D-2, as drifted from the set that D-1 uses; D and later days then use the new set. The flag of
D-1 is not used, because it does not exist yet when D is first trained: a rerun of D would otherwise decide differently.

An example, where search and training read three days and the 2nd is the first day with features:

  5th  There is no set yet: the search of the 5th is due by schedule. It reads the 2nd to 4th and makes set A, which
       the 5th uses.
  6th  The newest day scored for the 5th is the 4th, which A covers: nothing to decide, A is used. Scoring for the 6th
       finds that the 5th did not drift.
  7th  The newest day scored for the 6th is the 5th, which did not drift: A is used. Scoring for the 7th finds that the
       6th drifted.
  8th  The newest day scored for the 7th is the 6th, which drifted from A: the search of the 8th is due. It reads the
       5th to 7th and makes set B, which the 8th and later days use. The 7th, trained before this was known, keeps A.

Days may be trained in any order. If the 8th is trained first, the search of the 5th comes first, then scoring of the
5th and 6th, then the search of the 8th: a decision needs the decisions and drift flags of all days since the scheduled
search. A flag is a function of set, day and limits, so one that is missing can be made at any time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from msr_models.sets.catalogue import Catalogue, read_catalogue
from msr_models.sets.drift import drift_flags
from schemas.dataset_spec import DatasetSpec
from schemas.first_days import first_search_day, why_no_window
from schemas.pipeline_spec import SearchSpec
from schemas.tables.shared_instance_sets import SharedSet

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Todo:
    """`search`: search the days before `day`. `score`: score `day` with `shared_set`, to learn whether it drifted."""

    kind: Literal["search", "score"]
    day: date
    shared_set: SharedSet | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The first thing to do before a day may be trained (None: nothing), and the reason."""

    todo: Todo | None
    reason: str


def next_todo(dataset: DatasetSpec, ds: date, search: SearchSpec | None = None) -> Decision:
    """The next search or scoring that `ds` relies on, from the tables' content alone; none where a set is pinned.

    search: settings to search with instead of the data set's own.
    """
    scheduled = dataset.search_day(ds)
    if scheduled is None:
        return Decision(todo=None, reason=f"the first scheduled search is that of {first_search_day(dataset)}")
    catalogue = read_catalogue(dataset, search)
    pin = catalogue.pin_on(ds)
    if pin is not None:
        return Decision(todo=None, reason=f"shared set {pin.shared_set_id} is pinned from {pin.from_ds} on")
    newest = catalogue.newest(ds)
    if newest is None or newest.last_day < scheduled - _DAY:
        searched = _search_of(catalogue, scheduled)
        if searched is None:
            todo = Todo(kind="search", day=scheduled)
            return Decision(todo=todo, reason=f"the search of {scheduled} is due")
        done = f"the search of {scheduled} was {searched.status} ({searched.status_reason})"
        if newest is None:
            return Decision(todo=None, reason=f"{done}; to search again, change `search` in the YAML")
    else:
        done = f"shared set {newest.shared_set_id} covers days up to {newest.last_day}"
    return _due_by_drift(catalogue, scheduled, ds) or Decision(todo=None, reason=done)


def needs_search(dataset: DatasetSpec, ds: date) -> tuple[Literal["yes", "no", "skip"], str]:
    """Whether searching or scoring is needed before `ds` may be trained, and why; skip: `ds` is not trained."""
    if dataset.window_before(ds, dataset.training.window_days) is None:
        return "skip", why_no_window(dataset, ds, "training", dataset.training.window_days)
    decision = next_todo(dataset, ds)
    return "no" if decision.todo is None else "yes", decision.reason


def _due_by_drift(catalogue: Catalogue, scheduled: date, ds: date) -> Decision | None:
    days = [scheduled + n * _DAY for n in range(1, (ds - scheduled).days + 1)]
    flags = drift_flags(catalogue.dataset, [day - 2 * _DAY for day in days])
    for day in days:
        before, newest_scored = day - _DAY, day - 2 * _DAY
        used = None if catalogue.pin_on(before) else catalogue.newest(before)
        if used is None or newest_scored <= used.last_day or _search_of(catalogue, day) is not None:
            continue
        flag = flags.get((used.shared_set_id, newest_scored))
        if flag is None:
            score = Todo(kind="score", day=newest_scored, shared_set=used)
            reason = f"whether {newest_scored} drifted from shared set {used.shared_set_id} is not known yet"
            return Decision(todo=score, reason=reason)
        if flag:
            reason = f"{newest_scored} drifted from shared set {used.shared_set_id}: the search of {day} is due"
            return Decision(todo=Todo(kind="search", day=day), reason=reason)
    return None


def _search_of(catalogue: Catalogue, day: date) -> SharedSet | None:
    """A set that makes another search of the days before `day` pointless: an accepted one, or a rejected or retired
    one that was searched with the current settings.
    """
    of_day = (s for s in catalogue.sets if s.last_day == day - _DAY and catalogue.is_compatible(s))
    return next((s for s in of_day if s.status == "accepted" or s.is_searched_with(catalogue.search)), None)
