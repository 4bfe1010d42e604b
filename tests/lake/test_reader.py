"""Errors of reading name what is missing and the step that writes it."""

from pathlib import Path

import pytest

from lake.reader import open_table, published_days, read_table
from schemas.errors import TableError
from schemas.load_dataset import load_dataset
from tests.support.report_lake import training_run, write_run

GENERATED = load_dataset("generated")


def test_a_missing_table_names_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path))
    with pytest.raises(TableError, match=r"scenario_features does not exist.*jobs\.build_scenario_features"):
        open_table(GENERATED, "scenario_features")
    assert published_days(GENERATED, "scenario_features") == set()


def test_a_version_whose_log_is_gone_is_not_a_missing_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path))
    for run_id in ("one", "two"):
        write_run(GENERATED, training_run("2026-01-08", run_id=run_id))
    (tmp_path / "generated" / "training_runs" / "_delta_log" / f"{0:020}.json").unlink()
    with pytest.raises(TableError, match=r"version 0 of .*training_runs cannot be opened .* may have been vacuumed"):
        open_table(GENERATED, "training_runs", version=0)


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path))
    write_run(GENERATED, training_run("2026-01-08"))
    for commit in (tmp_path / "generated" / "training_runs" / "_delta_log").glob("*.json"):
        commit.write_text("{")
    with pytest.raises(TableError, match=r"training_runs cannot be opened .*check its files"):
        open_table(GENERATED, "training_runs")


def test_an_unknown_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path))
    with pytest.raises(TableError, match="'featurs' is not specified; known tables: audits"):
        read_table(GENERATED, "featurs")
