"""Refused rows are shown by reason with their raw text, also where nothing was published."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from jobs import quarantine
from jobs.quarantine import lines_of_day
from lake.arrow_writer import overwrite_partition
from lake.rows import write_rows
from schemas.errors import TableError
from schemas.load_dataset import load_dataset
from schemas.tables.audits import Audit
from tests.support.steps import command_line

GENERATED = load_dataset("generated")
DAY = "2026-01-03"
DS = date.fromisoformat(DAY)


def refuse(reasons: list[str], status: str = "failed") -> None:
    rows = len(reasons)
    published = 10 if status == "published" else 0
    audit = Audit(
        table_name="impressions",
        ds=DAY,
        status=status,
        rows_in=rows + 10,
        rows_published=published,
        rows_quarantined=rows,
    )
    write_rows(GENERATED, [audit])
    table = pa.table(
        {
            "ds": [DAY] * rows,
            "reason": reasons,
            "detail": [f"user={n}" for n in range(rows)],
            "raw_record": [f'{{"n":{n}}}' for n in range(rows)],
            "source": ["log.csv"] * rows,
        }
    )
    overwrite_partition(table, GENERATED, "quarantine", {"ds": DAY})


def test_a_stopped_day_shows_its_rows_by_reason(lake: Path) -> None:
    refuse(["bad_time", "null_user", "bad_time", "bad_time"])
    assert lines_of_day(GENERATED, DS, None, 2) == [
        "generated 2026-01-03: 14 rows in, nothing published, 4 refused",
        "  bad_time   3",
        "  null_user  1",
        "bad_time (1 more: --limit):",
        '  user=0  {"n":0}  log.csv',
        '  user=2  {"n":2}  log.csv',
        "null_user:",
        '  user=1  {"n":1}  log.csv',
    ]
    assert lines_of_day(GENERATED, DS, "null_user", 0)[-1] == "  null_user  1"
    assert lines_of_day(GENERATED, DS, "null_user", 9)[-2:] == ["null_user:", '  user=1  {"n":1}  log.csv']


def test_a_day_without_refused_rows_says_so(lake: Path) -> None:
    refuse([], "published")
    assert lines_of_day(GENERATED, DS, None, 5) == ["generated 2026-01-03: 10 rows in, 10 published, 0 refused"]


def test_wrong_questions_are_one_line(lake: Path) -> None:
    with pytest.raises(TableError, match=r"2026-01-03 was not ingested yet; run 'python -m jobs\.ingest_impressions"):
        lines_of_day(GENERATED, DS, None, 5)
    refuse(["bad_time"])
    with pytest.raises(TableError, match=r"--reason bad_tme: .* has no rows of that reason; did you mean 'bad_time'\?"):
        lines_of_day(GENERATED, DS, "bad_tme", 5)


def test_the_command_prints_the_rows(
    lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(["bad_time"])
    assert command_line(quarantine, ["--dataset", "generated", "--ds", DAY, "--limit", "1"], monkeypatch) == 0
    assert 'user=0  {"n":0}  log.csv' in capsys.readouterr().out
