"""The plan says what a log suffices for, and names the days that are missing."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from jobs import plan
from jobs.plan import plan_lines
from lake.rows import write_rows
from schemas.dataset_spec import DatasetSpec
from schemas.tables.audits import Audit
from tests.support.own_log import own_dataset, write_csv
from tests.support.steps import command_line


def shop(folder: Path, files: list[int], **changes: Any) -> DatasetSpec:
    blocks = {"days": {"start": "2026-03-01"}, "vocabulary": {"fit_days": 3}, "training": {"window_days": 5}}
    dataset = own_dataset(folder, **blocks | changes)
    for day in files:
        write_csv(folder, [], f"2026-03-{day:02}.csv")
    return dataset


def test_a_log_that_is_too_short_names_the_missing_days(tmp_path: Path, lake: Path) -> None:
    lines = plan_lines(shop(tmp_path, [1, 2, 3, 5]))
    assert lines[:4] == [
        "own: days 2026-03-01 .. open",
        "log: 4 days, 2026-03-01 .. 2026-03-03, 2026-03-05",
        "log: WARNING no files for 2026-03-04",
        "impressions: none yet",
    ]
    assert any(line.startswith("first feature day:  2026-03-04 = days.start + vocabulary.fit_days 3") for line in lines)
    assert any("it trains on 2026-03-04 .. 2026-03-07, validates on 2026-03-08 (" in line for line in lines)
    assert any(
        line.startswith(
            "the log is too short: the first training day is 2026-03-09; the log ends 2026-03-05: deliver 4 more days, "
        )
        for line in lines
    )
    assert lines[-2:] == [
        "  python -m jobs.build_behaviour_sequences --dataset own --from 2026-03-04 --to 2026-03-05",
        "  python -m jobs.build_scenario_features --dataset own --from 2026-03-04 --to 2026-03-05",
    ]


def test_an_end_that_is_asked_for_is_planned(tmp_path: Path, lake: Path) -> None:
    lines = plan_lines(shop(tmp_path, [1]), date(2026, 3, 20))
    assert "a log that ends 2026-03-20: training days: 12, scheduled searches: 2" in lines
    assert "  python -m jobs.train_target_model --dataset own --from 2026-03-09 --to 2026-03-20" in lines
    search = (
        "  python -m jobs.search_shared_instances --dataset own --from 2026-03-09 --to 2026-03-20 --window scheduled"
    )
    assert search in lines


def test_a_data_set_that_ends_early_and_days_outside_are_told(tmp_path: Path, lake: Path) -> None:
    lines = plan_lines(shop(tmp_path, [1, 2, 30], days={"start": "2026-03-02", "end": "2026-03-06"}))
    assert "log: WARNING 2026-03-01, 2026-03-30 outside days.start .. days.end are not used" in lines
    assert any("the log ends 2026-03-06: deliver 4 more days" in line for line in lines)


def test_a_stopped_day_and_a_log_of_one_file_are_told(tmp_path: Path, lake: Path) -> None:
    source = {"adapter": "files", "format": "csv", "path": "log/all.csv"}
    dataset = shop(tmp_path, [], source=source)
    assert "where the log ends is not known before a day is ingested; --to DAY plans for an end" in plan_lines(dataset)
    failed = Audit(table_name="impressions", ds="2026-03-02", status="failed", rows_in=9, rows_published=0)
    write_rows(dataset, [failed])
    stopped = (
        "impressions: WARNING the audit stopped 2026-03-02: 'python -m jobs.quarantine --dataset own --ds DAY' shows"
    )
    assert any(line.startswith(stopped) for line in plan_lines(dataset))


def test_the_command_prints_the_plan(
    tmp_path: Path, lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop(tmp_path, [1])
    assert command_line(plan, ["--dataset", tmp_path / "own.yaml", "--to", "2026-03-04"], monkeypatch) == 0
    assert "the log ends 2026-03-04: deliver 5 more days" in capsys.readouterr().out
