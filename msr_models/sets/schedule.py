"""Which search a training day relies on: the scheduled ones, and those that drift makes due in between.

Scheduled: `DatasetSpec.search_day`. By drift: where scoring for the day before, D-1, flagged its newest day, D-2, under
the set that D-1 uses, a search of the days before D is due, and D and later days use its set. The flag of D-1 itself
is not there when D decides, in daily order: were it used, a rerun of D would decide otherwise than its first run did.

Four days, where search and training read three days and the 2nd is the first with features:

  5th  no set yet: the search of the 5th is due by schedule. It reads 2nd to 4th and makes set A; the 5th uses A.
  6th  A covers up to the 4th, the newest day scored for the 5th: nothing to ask. Scoring for the 6th flags the 5th: no.
  7th  the 5th, newest of those scored for the 6th, did not drift: A. Scoring for the 7th flags the 6th: it drifted.
  8th  the 6th, newest of those scored for the 7th, drifted from A: the search of the 8th is due by drift. It reads
       5th to 7th and makes set B; the 8th and later days use B. Not the 7th, which was trained before this was known.

Were the 8th trained first, the search of the 5th would be made, then the flags of the 5th and 6th, then the search of
the 8th: a decision needs those of all days since the scheduled search, and the flags that they rest on. A flag is a
function of set, day and limits; one that is missing is made first, so whatever the order of days, they decide the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

from msr_models.sets.catalogue import Catalogue, read_catalogue
from msr_models.sets.drift import drift_flags
from schemas.dataset_spec import DatasetSpec
from schemas.pipeline_spec import SearchSpec
from schemas.tables.shared_instance_sets import SharedSet

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Todo:
    """`search`: the days before `day`. `score`: `day` with `shared_set`, to know whether it drifted."""

    kind: Literal["search", "score"]
    day: date
    shared_set: SharedSet | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The first thing to be done before `ds` may be trained (None: nothing) and why."""

    todo: Todo | None
    reason: str


def next_todo(dataset: DatasetSpec, ds: date, search: SearchSpec | None = None) -> Decision:
    """What the sets that `ds` relies on still lack, from the tables' content alone; nothing where a set is pinned.

    search: settings to search with instead of the data set's own.
    """
    scheduled = dataset.search_day(ds)
    if scheduled is None:
        return Decision(todo=None, reason=f"the first search needs {dataset.search.window_days} days with features")
    catalogue = read_catalogue(dataset, search)
    pin = catalogue.pin_on(ds)
    if pin is not None:
        return Decision(todo=None, reason=f"shared set {pin.shared_set_id} is pinned from {pin.from_ds} on")
    newest = catalogue.newest(ds)
    if newest is None or newest.last_day < scheduled - _DAY:
        searched = _search_of(catalogue, scheduled)
        if searched is None:
            todo = Todo(kind="search", day=scheduled)
            return Decision(todo=todo, reason=f"the search of {scheduled} is to be done")
        done = f"the search of {scheduled} was {searched.status} ({searched.status_reason})"
        if newest is None:
            return Decision(todo=None, reason=f"{done}; change search in the YAML, and it is searched with that")
    else:
        done = f"shared set {newest.shared_set_id} covers days up to {newest.last_day}"
    return _due_by_drift(catalogue, scheduled, ds) or Decision(todo=None, reason=done)


def needs_search(dataset: DatasetSpec, ds: date) -> tuple[Literal["yes", "no", "skip"], str]:
    """Whether searching or scoring remains to be done before `ds` may be trained, and why; skip: nothing is trained."""
    if dataset.window_before(ds, dataset.training.window_days) is None:
        first = dataset.first_feature_day
        return "skip", f"not all {dataset.training.window_days} days before it have features (the first is {first})"
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
            reason = f"{newest_scored} drifted from shared set {used.shared_set_id}: the search of {day} is to be done"
            return Decision(todo=Todo(kind="search", day=day), reason=reason)
    return None


def _search_of(catalogue: Catalogue, day: date) -> SharedSet | None:
    """A set of the days before `day` that a search would not better: an accepted one, or one that was rejected or
    retired and that a search with the settings of now would only find again.
    """
    of_day = (s for s in catalogue.sets if s.last_day == day - _DAY and catalogue.is_compatible(s))
    return next((s for s in of_day if s.status == "accepted" or s.is_searched_with(catalogue.search)), None)
