"""Errors of reading name what is missing and the step that writes it."""

from pathlib import Path

import pytest

from lake.reader import open_table, published_days, read_table
from schemas.errors import TableError
from schemas.load_dataset import load_dataset

GENERATED = load_dataset("generated")


def test_a_missing_table_names_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path))
    with pytest.raises(TableError, match=r"scenario_features does not exist.*jobs\.build_scenario_features"):
        open_table(GENERATED, "scenario_features")
    assert published_days(GENERATED, "scenario_features") == set()


def test_an_unknown_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path))
    with pytest.raises(TableError, match="'featurs' is not specified; known tables: audits"):
        read_table(GENERATED, "featurs")
