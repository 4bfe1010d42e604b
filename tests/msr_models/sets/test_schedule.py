"""Which search a day relies on: scheduled ones and those that drift makes due, whatever the order of days."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from msr_models.sets.catalogue import find_shared_set
from msr_models.sets.schedule import Todo, next_todo
from schemas.dataset_spec import DatasetSpec
from tests.support.set_tables import write_drift, write_pin
from tests.support.tiny_lake import tiny_dataset, write_shared_set

D = {d: date(2026, 1, d) for d in range(1, 20)}
SEARCH = tiny_dataset().search.model_dump(exclude_unset=True)
FIRST = D[5]  # first day with full windows: features from the 2nd on, three days each


def todo(spec: DatasetSpec, day: int) -> tuple[str, int] | None:
    found = next_todo(spec, D[day]).todo
    return None if found is None else (found.kind, found.day.day)


@pytest.fixture
def spec(lake: Path) -> DatasetSpec:
    """Searched on days 2 to 4; days 5 to 8 did not drift."""
    spec = tiny_dataset()
    write_shared_set(spec, "first", (D[2], D[4]))
    for day in (5, 6, 7, 8):
        write_drift(spec, "first", D[day], is_drifted=False)
    return spec


def test_the_four_days_of_the_docstring(lake: Path) -> None:
    spec = tiny_dataset()
    assert todo(spec, 8) == ("search", 5)
    write_shared_set(spec, "a", (D[2], D[4]))
    assert [todo(spec, day) for day in (5, 6, 7, 8)] == [None, None, ("score", 5), ("score", 5)]
    write_drift(spec, "a", D[5], is_drifted=False)
    assert [todo(spec, day) for day in (7, 8)] == [None, ("score", 6)]
    write_drift(spec, "a", D[6], is_drifted=True)
    assert [todo(spec, day) for day in (7, 8)] == [None, ("search", 8)]
    write_shared_set(spec, "b", (D[5], D[7]))
    used = [find_shared_set(spec, D[day]) for day in (5, 6, 7, 8, 9)]
    assert [found.shared_set_id if found else None for found in used] == ["a", "a", "a", "b", "b"]


def test_scheduled_searches_come_first_and_are_done_once(lake: Path) -> None:
    spec = tiny_dataset()
    assert todo(spec, 4) is None
    assert todo(spec, 5) == todo(spec, 11) == ("search", 5)
    assert todo(spec, 12) == ("search", 12)
    write_shared_set(spec, "bad", (D[2], D[4]), status="rejected")
    assert todo(spec, 5) is None
    assert "was rejected (test)" in next_todo(spec, D[5]).reason
    write_shared_set(spec, "old", (D[9], D[11]), status="retired")
    assert todo(spec, 12) is None, "a search whose set was retired would only find that set again"


@pytest.mark.parametrize("status", ["rejected", "retired"])
def test_other_settings_make_a_search_that_came_to_nothing_due_again(lake: Path, status: str) -> None:
    spec = tiny_dataset()
    write_shared_set(spec, "bad", (D[2], D[4]), status=status)
    assert todo(spec, 5) is None
    changes = {"seed": 2, "kl_weight": 0.1, "window_days": 2}
    for name, value in changes.items():
        assert todo(tiny_dataset(search=SEARCH | {name: value}), 5) in {("search", 5), ("search", 4)}, name
    for name, value in {"every_days": 6, "drift_psi_limit": 0.1}.items():
        assert todo(tiny_dataset(search=SEARCH | {name: value}), 5) is None, name
    write_shared_set(spec, "unreadable", (D[2], D[4]), status=status, config='{"of_old": 1}')
    assert todo(spec, 5) is None


def test_other_settings_leave_an_accepted_set_in_force_until_the_next_search(spec: DatasetSpec) -> None:
    changed = tiny_dataset(search=SEARCH | {"kl_weight": 0.1})
    assert [todo(changed, day) for day in range(5, 11)] == [None] * 6
    assert todo(changed, 12) == ("search", 12)
    write_drift(spec, "first", D[6], is_drifted=True)
    assert todo(changed, 8) == ("search", 8)
    write_shared_set(spec, "second", (D[5], D[7]))
    assert [todo(changed, day) for day in (8, 9)] == [None] * 2, "also the set that drift made"


def test_a_day_that_drifted_makes_the_search_of_the_day_after_the_next_due(spec: DatasetSpec) -> None:
    assert [todo(spec, day) for day in range(5, 11)] == [None] * 6
    write_drift(spec, "first", D[6], is_drifted=True)
    assert [todo(spec, day) for day in range(5, 8)] == [None] * 3, "what 7 decided before it scored day 6 stays"
    assert {todo(spec, day) for day in range(8, 12)} == {("search", 8)}
    assert todo(spec, 12) == ("search", 12), "the schedule goes on"


def test_the_set_that_drift_made_ends_it(spec: DatasetSpec) -> None:
    write_drift(spec, "first", D[6], is_drifted=True)
    write_drift(spec, "first", D[7], is_drifted=True)
    write_shared_set(spec, "second", (D[5], D[7]))
    assert todo(spec, 8) is None and todo(spec, 9) is None
    assert todo(spec, 10) == ("score", 8), "under the new set"
    waiting = next_todo(spec, D[10]).todo
    assert waiting is not None and waiting.shared_set is not None and waiting.shared_set.shared_set_id == "second"
    write_drift(spec, "second", D[8], is_drifted=True)
    assert todo(spec, 10) == ("search", 10)


@pytest.mark.parametrize("status", ["rejected", "retired"])
def test_a_search_by_drift_is_not_repeated_and_the_old_set_is_watched_on(spec: DatasetSpec, status: str) -> None:
    write_drift(spec, "first", D[6], is_drifted=True)
    write_shared_set(spec, "second", (D[5], D[7]), status=status)
    assert [todo(spec, day) for day in (8, 9, 10)] == [None] * 3
    write_drift(spec, "first", D[8], is_drifted=True)
    assert todo(spec, 10) == ("search", 10)


def test_what_is_not_known_is_made_first_oldest_first(lake: Path) -> None:
    spec = tiny_dataset()
    write_shared_set(spec, "first", (D[2], D[4]))
    assert todo(spec, 6) is None
    assert {todo(spec, day) for day in range(7, 12)} == {("score", 5)}
    write_drift(spec, "first", D[6], is_drifted=True)
    assert todo(spec, 11) == ("score", 5), "were day 5 skipped, the order of days would decide"
    write_drift(spec, "first", D[5], is_drifted=False)
    assert todo(spec, 11) == ("search", 8)


def test_days_after_the_one_asked_for_decide_nothing(spec: DatasetSpec) -> None:
    before = [next_todo(spec, D[day]) for day in range(5, 9)]
    write_shared_set(spec, "later", (D[6], D[8]))
    write_drift(spec, "first", D[7], is_drifted=True)
    write_drift(spec, "first", D[8], is_drifted=True)
    write_pin(spec, D[9], "first")
    assert [next_todo(spec, D[day]) for day in range(5, 9)] == before


def test_a_pinned_set_is_not_searched_away(spec: DatasetSpec) -> None:
    write_drift(spec, "first", D[6], is_drifted=True)
    write_pin(spec, D[7], "first")
    assert [todo(spec, day) for day in (7, 8, 11, 12, 15)] == [None] * 5
    assert "is pinned from 2026-01-07 on" in next_todo(spec, D[8]).reason
    write_pin(spec, D[9], None)
    assert todo(spec, 9) is None, "day 8 used the pinned set"
    assert todo(spec, 12) == ("search", 12)


def test_a_todo_names_the_set_to_score_with(lake: Path) -> None:
    spec = tiny_dataset()
    write_shared_set(spec, "first", (D[2], D[4]))
    found = next_todo(spec, D[7]).todo
    assert isinstance(found, Todo) and found.shared_set is not None and found.shared_set.shared_set_id == "first"
