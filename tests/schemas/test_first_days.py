"""The first days are told with the keys that decide them."""

from __future__ import annotations

from datetime import date
from typing import Any

from schemas.dataset_spec import DatasetSpec
from schemas.first_days import first_search_day, first_training_day, what_is_missing, why_no_window
from tests.support.own_log import spec


def own(**changes: Any) -> DatasetSpec:
    blocks = {"vocabulary": {"fit_days": 2}, "training": {"window_days": 6}, "search": {"window_days": 4}}
    return DatasetSpec.model_validate(spec(**blocks | changes))


def test_first_days_follow_from_the_windows() -> None:
    assert (first_training_day(own()), first_search_day(own())) == (date(2026, 3, 9), date(2026, 3, 9))
    longer = own(search={"window_days": 8})
    assert (first_training_day(longer), first_search_day(longer)) == (date(2026, 3, 9), date(2026, 3, 11))
    for dataset in (own(), longer):
        day = first_search_day(dataset)
        assert dataset.search_day(day) == day
        assert dataset.window_before(first_training_day(dataset), dataset.training.window_days) is not None


def test_a_short_log_is_told_what_it_lacks() -> None:
    assert what_is_missing(own(), date(2026, 3, 9)) is None
    assert what_is_missing(own(), date(2026, 3, 5)) == (
        "the log is too short: the first training day is 2026-03-09; the log ends 2026-03-05: deliver 4 more days, or "
        "lower training.window_days (6) or vocabulary.fit_days (2)"
    )
    assert "deliver 1 more day, or" in str(what_is_missing(own(), date(2026, 3, 8)))


def test_a_day_without_a_full_window_names_the_first_that_has_one() -> None:
    why = why_no_window(own(), date(2026, 3, 5), "training", 6)
    assert why == (
        "the 6 days before it (2026-02-27 .. 2026-03-04) do not all have features; the first day with a full window is "
        "2026-03-09 = days.start 2026-03-01 + vocabulary.fit_days 2 + training.window_days 6"
    )
    ended = own(days={"start": "2026-03-01", "end": "2026-03-07"})
    assert why_no_window(ended, date(2026, 3, 5), "search", 6).endswith(
        ", and the data set ends 2026-03-07: deliver 2 more days or lower search.window_days"
    )
