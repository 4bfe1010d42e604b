"""The whole pipeline on real engines: log, tables, set, model, metrics, report; again, backwards, without a future."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from jobs.hash_tables import ContentHash, hash_lake
from lake.reader import published_days, read_table
from schemas.load_dataset import load_dataset
from schemas.tables import table_names
from tests.support.steps import run_step
from tests.support.tiny_log import DAYS, FEATURE_DAYS, ROWS, TEST_DAY, write_log

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.usefixtures("spark")]

FEATURE_STEPS = ("ingest_impressions", "build_vocabularies", "build_behaviour_sequences", "build_scenario_features")
FEATURE_TABLES = ("impressions", "quarantine", "vocabularies", "behaviour_sequences", "scenario_features")
TRAINING_STEPS = (
    "search_shared_instances",
    "score_shared_instances",
    "train_target_model",
    "evaluate",
    "report",
)


def run(step: str, dataset: Path, days: Sequence[date]) -> None:
    """One step in this process with its default options."""
    run_step(importlib.import_module(f"jobs.{step}"), load_dataset(str(dataset)), *days)


def run_all(dataset: Path, days: Sequence[date]) -> None:
    for day in days:
        for step in FEATURE_STEPS:
            run(step, dataset, [day])
    for step in TRAINING_STEPS:
        run(step, dataset, [TEST_DAY])


def hashes(dataset: Path, tables: Sequence[str]) -> list[ContentHash]:
    return list(hash_lake(load_dataset(str(dataset)), tables, []))


@pytest.fixture(scope="module")
def log(module_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML of a log whose lake has been made day by day, with training and report of TEST_DAY."""
    path = write_log(tmp_path_factory.mktemp("log") / "own")
    run_all(path, DAYS)
    return path


def test_rows_in_are_published_or_quarantined(log: Path) -> None:
    audits = read_table(load_dataset(str(log)), "audits", filters={"table_name": "impressions"}).to_pylist()
    assert sorted(a["ds"] for a in audits) == [str(d) for d in DAYS]
    for audit in audits:
        day = [date.fromisoformat(audit["ds"])]
        assert audit["rows_in"] == ROWS
        assert read_table(load_dataset(str(log)), "impressions", days=day).num_rows == audit["rows_published"]
        assert read_table(load_dataset(str(log)), "quarantine", days=day).num_rows == audit["rows_quarantined"] > 0
        assert sum(json.loads(audit["quarantine_reasons"]).values()) == audit["rows_quarantined"]


def test_every_published_impression_has_features(log: Path) -> None:
    assert published_days(load_dataset(str(log)), "scenario_features") == set(FEATURE_DAYS)
    for day in FEATURE_DAYS:
        impressions = read_table(load_dataset(str(log)), "impressions", columns=["instance_id"], days=[day])
        features = read_table(load_dataset(str(log)), "scenario_features", columns=["instance_id"], days=[day])
        assert sorted(features["instance_id"].to_pylist()) == sorted(impressions["instance_id"].to_pylist())
    run("audit_tables", log, FEATURE_DAYS)


def test_the_run_is_evaluated_per_scenario_and_reported(log: Path, module_lake: Path) -> None:
    rows = read_table(load_dataset(str(log)), "evaluations", days=[TEST_DAY]).to_pylist()
    tested = [r for r in rows if r["split"] == "test"]
    assert {r["scenario"] for r in tested} == {"home", "feed", "cart", "ads", "all"}
    assert {r["ratio"] for r in tested} == {0.0, 0.3, 1.0}
    selected = sorted({r["run_id"].partition("-")[0] for r in tested if r["is_selected"]})
    assert selected == ["logistic_regression", "shared_bottom"], "one run of each model, the floor among them"
    report = (module_lake / "report" / "index.html").read_text(encoding="utf-8")
    assert "<svg" in report


def test_a_second_run_changes_nothing(log: Path) -> None:
    before = hashes(log, table_names())
    for step in FEATURE_STEPS:
        run(step, log, DAYS[1:3])  # as a range this time
    for step in TRAINING_STEPS:
        run(step, log, [TEST_DAY])
    assert hashes(log, table_names()) == before


def test_the_order_of_days_does_not_matter(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forwards = hashes(log, FEATURE_TABLES)
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path))
    for day in reversed(FEATURE_DAYS):
        run("build_scenario_features", log, [day])  # builds what it needs of earlier days
    assert hashes(log, FEATURE_TABLES) == forwards


def test_the_future_moves_neither_features_nor_sets_nor_metrics(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A future that gives every label away, in the tables before anything else is built: nothing up to D moves."""
    future = DAYS[DAYS.index(TEST_DAY) + 1]
    tables = [*FEATURE_TABLES, "shared_instance_masks", "evaluations"]
    expected = [h for h in hashes(log, tables) if _is_up_to(h, TEST_DAY)]
    changed = write_log(tmp_path / "changed", changed_from=future)
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "lake"))
    run_all(changed, [future, *[d for d in DAYS if d != future]])
    found = hashes(changed, tables)
    assert [h for h in found if _is_up_to(h, TEST_DAY)] == expected
    assert {h.table for h in expected} == set(tables)
    # and the future did change, else this proves nothing
    leaked = read_table(load_dataset(str(log)), "impressions", columns=["item_id"], days=[future])
    assert set(leaked["item_id"].to_pylist()) == {"leak-0", "leak-1"}


def _is_up_to(part: ContentHash, last: date) -> bool:
    """Whether a part is of a day up to `last`; a vocabulary version counts from its first day of validity."""
    return part.ds.split("-")[0] <= f"{last:%Y%m%d}" if part.table == "vocabularies" else part.ds <= str(last)
