"""The days of a chain: who starts from whom, on which days, and that all of it depends on the day alone."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from msr_models.training.chain import (
    days_to_make_first,
    first_trainable_day,
    plan_day,
    previous_trainable_day,
    split_days,
)
from schemas.dataset_spec import DatasetSpec
from tests.support.empty_days import publish_empty
from tests.support.tiny_lake import tiny_dataset

TRAINING = {"window_days": 4, "validation_days": 1, "start": "previous_day"}


def day(n: int) -> date:
    return date(2026, 1, n)


def chained(**changes: object) -> DatasetSpec:
    return tiny_dataset(training=TRAINING | changes, days={"start": "2026-01-01", "allow_empty": True})


def test_the_first_trainable_day_starts_from_scratch_and_the_next_from_it(lake: Path) -> None:
    spec = chained()
    assert plan_day(spec, day(5)) is None
    first, second = plan_day(spec, day(6)), plan_day(spec, day(7))
    assert first is not None and second is not None
    assert (first.train_days, first.validation_days) == ([day(2), day(3), day(4)], [day(5)])
    assert (first.predecessor, first.start) == (None, "scratch")
    assert (second.train_days, second.validation_days) == ([day(5)], [day(6)])
    assert (second.predecessor, second.start) == (day(6), "previous_day")


def test_from_scratch_every_day_takes_its_whole_window(lake: Path) -> None:
    spec = chained(start="scratch")
    plan = plan_day(spec, day(9))
    assert plan is not None and plan.predecessor is None
    assert (plan.train_days, plan.validation_days) == split_days(spec, day(9))


def test_days_together_train_on_each_day_once_and_never_on_a_later_one(lake: Path) -> None:
    spec = chained(validation_days=2)
    plans = [plan for n in range(2, 16) if (plan := plan_day(spec, day(n))) is not None]
    seen = [d for plan in plans for d in plan.train_days]
    assert seen == sorted(set(seen)) == [day(n) for n in range(2, 13)]
    assert all(max(plan.train_days) < min(plan.validation_days) < plan.ds for plan in plans)


def test_a_day_without_rows_is_no_predecessor_and_its_days_are_caught_up(lake: Path) -> None:
    spec = chained()
    publish_empty(spec, day(8))
    # 9 has only the empty 8 to validate with, so neither 8 nor 9 can be trained
    assert previous_trainable_day(spec, day(10)) == day(7)
    assert first_trainable_day(spec, day(10)) == day(6)
    plan = plan_day(spec, day(10))
    assert plan is not None and plan.train_days == [day(6), day(7), day(8)] and plan.validation_days == [day(9)]


def test_the_first_day_of_a_chain_is_the_first_with_rows(lake: Path) -> None:
    spec = chained()
    assert first_trainable_day(spec, day(9)) == day(6) and first_trainable_day(spec, day(6)) == day(6)
    publish_empty(spec, day(5))  # 6 has nothing to validate with
    assert first_trainable_day(spec, day(9)) == day(7)
    assert previous_trainable_day(spec, day(8)) == day(7) and previous_trainable_day(spec, day(7)) is None
    publish_empty(spec, day(2), day(3), day(4), day(6))  # 7 has nothing at all
    assert first_trainable_day(spec, day(9)) == day(9)


@pytest.mark.parametrize("last", [6, 7, 9])
def test_all_days_back_to_the_first_are_made_in_order(last: int, lake: Path) -> None:
    spec = chained()
    plan = plan_day(spec, day(last))
    assert plan is not None
    missing = days_to_make_first(spec, plan, spec.training.models)
    assert missing == [(day(n), list(spec.training.models)) for n in range(6, last)]
