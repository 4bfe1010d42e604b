"""What audits found stands in the report: failed days, findings, days unlike those before them, Data Docs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from jobs.report import write_report
from jobs.reporting.collect import collect
from jobs.reporting.page import render
from lake.locations import data_docs_path
from lake.rows import read_rows, write_rows
from schemas.load_dataset import load_dataset
from schemas.tables.audits import Audit
from tests.support.report_lake import write_audits

GENERATED = load_dataset("generated")


def day(number: int) -> date:
    return GENERATED.days.start + timedelta(days=number - 1)


def test_a_failed_audit_and_warnings_are_shown(lake: Path) -> None:
    write_audits(GENERATED, [day(1), day(2)])
    audit = read_rows(GENERATED, Audit, days=[day(1)])[0]
    failures = '["3 rows of an unknown scenario"]'
    write_rows(GENERATED, [replace(audit, table_name="scenario_features", status="failed", failures=failures)])
    data = collect(GENERATED, [])
    assert data.findings == [
        "impressions 2026-01-02, warning: label mean 0.96 is above 0.95",
        "scenario_features 2026-01-01, failed: 3 rows of an unknown scenario",
    ]
    assert all(finding in render(data) for finding in data.findings)
    assert [a.ds for a in data.audits] == [f"{day(1)}", f"{day(2)}"]


def test_a_day_unlike_the_days_before_it_is_shown(lake: Path) -> None:
    write_audits(GENERATED, [day(1), day(2), day(3)])
    for n, audit in enumerate(sorted(read_rows(GENERATED, Audit), key=lambda a: a.ds)):
        figures = {"rows": 1000, "label_mean": 0.9 if n == 2 else 0.2, "null_share": {}, "distinct": {}}
        write_rows(GENERATED, [replace(audit, profile=json.dumps(figures))])
    unlike = (
        "impressions 2026-01-03, warning: the label's mean is 0.9000, not about 0.2000 (the median of 2 earlier days)"
    )
    assert collect(GENERATED, []).findings[-1] == unlike
    assert collect(GENERATED, [day(3)]).findings == [unlike], "earlier days are read for it and not shown"
    assert unlike not in collect(GENERATED, [day(2)]).findings


def test_data_docs_are_linked_from_both_pages(lake: Path) -> None:
    write_audits(GENERATED, [day(1), day(2)])
    page = data_docs_path(GENERATED, day(2))
    page.parent.mkdir(parents=True)
    page.write_text("<p>results</p>", encoding="utf-8")
    html = render(collect(GENERATED, []))
    index = write_report(html, GENERATED.name)
    for place in (index, index.parent / GENERATED.name / "index.html"):
        (link,) = re.findall(r'href="([^"]*data_docs[^"]*)"', place.read_text(encoding="utf-8"))
        assert (place.parent / link).resolve() == page


def test_a_day_that_failed_its_audit_is_marked(lake: Path) -> None:
    write_audits(GENERATED, [day(1), day(2)])
    audit = read_rows(GENERATED, Audit, days=[day(2)])[0]
    write_rows(GENERATED, [replace(audit, status="failed", rows_published=0, rows_quarantined=0)])
    page = render(collect(GENERATED, []))
    published, _ = re.findall(r'<svg viewBox="[^"]*" role="img".*?</svg>', page, flags=re.DOTALL)
    assert published.count(">failed</text>") == 1
