"""A day's figures are compared with those of the days before it, never with later ones."""

from __future__ import annotations

from datetime import date

import pytest

from jobs.auditing.profile import DayProfile, compare, warnings_of_day
from schemas.audit_spec import AuditSpec
from schemas.tables.audits import Audit

SPEC = AuditSpec()
USUAL = DayProfile(rows=10_000, label_mean=0.2, null_share={"x_price": 0.05}, distinct={"user_id": 900})


def changed(**figures: object) -> DayProfile:
    return DayProfile(**{name: getattr(USUAL, name) for name in DayProfile.__slots__} | figures)


@pytest.mark.parametrize(
    ("day", "line"),
    [
        (changed(rows=4_999), "4,999 rows are 0.5 times 10,000 (the median of 3 earlier days)"),
        (changed(rows=20_001), "20,001 rows are 2 times 10,000 (the median of 3 earlier days)"),
        (changed(label_mean=0.3), "the label's mean is 0.3000, not about 0.2000 (the median of 3 earlier days)"),
        (
            changed(null_share={"x_price": 0.5}),
            "x_price: 50.0% of the rows have no value, not about 5.0% (the median of 3 earlier days)",
        ),
        (
            changed(distinct={"user_id": 300}),
            "user_id: about 300 distinct values, not about 900 (the median of 3 earlier days)",
        ),
    ],
)
def test_a_strong_change_is_one_line(day: DayProfile, line: str) -> None:
    assert compare(day, [USUAL] * 3, SPEC) == [line]


@pytest.mark.parametrize(
    "day",
    [
        USUAL,
        changed(rows=5_000, label_mean=0.25, null_share={"x_price": 0.14}, distinct={"user_id": 450}),
        changed(rows=20_000, null_share={"x_price": 0.05, "x_new": 0.0}, distinct={"user_id": 1800, "x_new": 7}),
    ],
)
def test_an_ordinary_change_and_a_new_field_say_nothing(day: DayProfile) -> None:
    assert compare(day, [USUAL] * 3, SPEC) == []


def test_columns_that_come_and_go_are_told() -> None:
    earlier = [changed(columns=["item", "price", "user"]), changed(columns=["item", "user"]), USUAL]
    assert compare(changed(columns=["item", "user"]), earlier, SPEC) == []
    assert compare(changed(columns=["brand", "item", "price"]), earlier, SPEC) == [
        "the log has columns ['brand'] that no earlier day had",
        "the log lacks columns ['user'] that all 2 earlier days had",
    ]


def test_few_rows_may_differ_by_chance() -> None:
    small, other = changed(rows=20), changed(rows=20, label_mean=0.4, null_share={"x_price": 0.2})
    assert compare(other, [small], SPEC) == []


def test_a_field_that_begins_to_have_values_is_no_warning() -> None:
    assert compare(USUAL, [changed(null_share={"x_price": 1.0}, distinct={"user_id": 900})], SPEC) == []


def test_the_limits_are_the_yamls() -> None:
    loose = AuditSpec(min_rows_ratio=0.1)
    assert compare(changed(rows=2_000), [USUAL], SPEC) and not compare(changed(rows=2_000), [USUAL], loose)


def audit(day: int, profile: DayProfile | None, status: str = "published") -> Audit:
    rows = profile.rows if profile else 0
    text = profile.to_json() if profile else None
    ds = f"2026-01-{day:02}"
    return Audit(table_name="impressions", ds=ds, status=status, rows_in=rows, rows_published=rows, profile=text)


def test_only_published_days_before_the_day_count() -> None:
    few = changed(rows=10)
    audits = [audit(1, few), audit(5, few, "failed"), audit(6, None), audit(7, USUAL), audit(9, USUAL), audit(10, few)]
    spec = AuditSpec(compare_days=7)
    assert warnings_of_day(audits, date(2026, 1, 9), spec) == [], "the 1st is too old, the 10th is the future"
    assert "10,000 (the median of 2 earlier" in warnings_of_day(audits, date(2026, 1, 10), spec)[0]
    assert warnings_of_day(audits, date(2026, 1, 10), AuditSpec(compare_days=0)) == []
    assert warnings_of_day(audits, date(2026, 1, 6), spec) == []


def test_a_profile_survives_its_text() -> None:
    assert DayProfile.from_json(USUAL.to_json()) == USUAL
