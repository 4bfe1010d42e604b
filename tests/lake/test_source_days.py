"""The days of a log are read off its files' names, and nothing else is."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lake.source_days import source_days
from schemas.dataset_spec import DatasetSpec
from schemas.load_dataset import load_dataset
from tests.support.own_log import spec

MARCH = [date(2026, 3, day) for day in (1, 2, 4)]


def dataset(path: str, **source: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(spec(source={"adapter": "files", "format": "csv", "path": path} | source))


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("log/{ds}.csv", "log/{ds}.csv"),
        ("log/{ds}", "log/{ds}/part-0.csv"),
        ("log/ds={ds}/*.csv", "log/ds={ds}/part-0.csv"),
        ("shop[1]/{ds}.csv", "shop[1]/{ds}.csv"),
        ("*/{ds}/log-{ds}.c?v", "eu/{ds}/log-{ds}.csv"),
        ("lög/{ds}_{ds}.csv", "lög/{ds}_{ds}.csv"),
    ],
)
def test_days_are_found_by_their_files(tmp_path: Path, pattern: str, files: str) -> None:
    for day in MARCH:
        path = tmp_path / files.replace("{ds}", str(day))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    (path.parent / "notes.txt").write_text("", encoding="utf-8")
    (path.parent / "2026-13-99.csv").write_text("", encoding="utf-8")
    assert source_days(dataset(str(tmp_path / pattern))) == set(MARCH)


def test_a_folder_that_is_not_there_holds_no_days(tmp_path: Path) -> None:
    assert source_days(dataset(str(tmp_path / "none" / "{ds}.csv"))) == set()


@pytest.mark.parametrize("path", ["log/all.csv", "s3://bucket/{ds}.csv"])
def test_other_sources_cannot_be_listed(path: str) -> None:
    assert source_days(dataset(path)) is None


def test_a_generated_log_has_its_days() -> None:
    generated = load_dataset("generated")
    assert len(source_days(generated) or ()) == 10
    assert source_days(generated.model_copy(update={"days": generated.days.model_copy(update={"end": None})})) is None
