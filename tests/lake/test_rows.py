"""Rows of small tables keep their values through Arrow and Delta."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

from lake.audits import days_with_passed_audit
from lake.rows import read_rows, write_rows
from schemas.load_dataset import load_dataset
from schemas.tables.audits import Audit
from schemas.tables.shared_instance_pins import Pin

GENERATED = load_dataset("generated")


def audit(ds: str, status: str = "published") -> Audit:
    return Audit(
        table_name="impressions",
        ds=ds,
        status=status,
        rows_in=3,
        rows_published=2,
        rows_quarantined=1,
    )


def test_rows_are_read_as_they_were_written(lake: Path) -> None:
    assert read_rows(GENERATED, Pin) == []
    pins = [
        Pin(from_ds="2026-01-02", shared_set_id="set", recorded_at=datetime(2026, 1, 3, 4, 5, tzinfo=UTC)),
        Pin(from_ds="2026-01-05", shared_set_id=None, recorded_at=datetime(2026, 1, 6, tzinfo=UTC)),
    ]
    for pin in pins:
        write_rows(GENERATED, [pin])
    assert sorted(read_rows(GENERATED, Pin), key=lambda pin: pin.from_ds) == pins


def test_a_days_audit_is_replaced_and_failed_days_have_not_passed(lake: Path) -> None:
    for found in (
        audit("2026-01-01"),
        audit("2026-01-02", "failed"),
        audit("2026-01-03", "failed"),
        audit("2026-01-03"),
    ):
        write_rows(GENERATED, [found])
    days = [date(2026, 1, n) for n in (1, 2, 3, 4)]
    assert days_with_passed_audit(GENERATED, "impressions", days) == {days[0], days[2]}
    assert days_with_passed_audit(GENERATED, "scenario_features", days) == set()
    assert days_with_passed_audit(GENERATED, "impressions", days[:1]) == {days[0]}
    assert read_rows(GENERATED, Audit, days=[days[1]]) == [audit("2026-01-02", "failed")]
