"""Clicks and purchases from the log to the metrics: the generated log with its further label, through every step."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest

from jobs import audit_tables, build_scenario_features, ingest_impressions
from lake.reader import read_table
from schemas.dataset_spec import DatasetSpec
from schemas.load_dataset import load_dataset
from tests.support.steps import evaluate, run_step, train

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.usefixtures("spark")]


def dataset_of() -> DatasetSpec:
    raw = load_dataset("generated").model_dump(mode="json")
    raw["source"]["generator"] |= {"rows_per_day": 1200, "num_users": 200, "num_items": 80, "purchases": True}
    raw["columns"]["further_labels"] = {"purchase": {"column": "purchase"}}
    raw["vocabulary"]["fit_days"] = 1
    raw["training"] |= {"window_days": 2, "max_epochs": 2, "labels": {"esmm": True}}
    return DatasetSpec.model_validate(raw)


def test_a_purchase_goes_through_every_step(lake: Path) -> None:
    dataset, start = dataset_of(), date(2026, 1, 1)
    days = [start + timedelta(days=n) for n in range(4)]
    run_step(ingest_impressions, dataset, *days)
    run_step(build_scenario_features, dataset, *days[1:])
    run_step(audit_tables, dataset, *days[1:])
    impressions = read_table(dataset, "impressions", days=days[1:])
    features = read_table(dataset, "scenario_features", days=days[1:])
    keys = ["ds", "instance_id"]
    order = [(name, "ascending") for name in keys]
    for name in ("label", "label_purchase"):
        assert features.sort_by(order)[name].equals(impressions.sort_by(order)[name])
    bought = pc.sum(impressions["label_purchase"]).as_py()
    assert 0 < bought < pc.sum(impressions["label"]).as_py()
    train(dataset, days[-1])
    evaluate(dataset, days[-1])
    found = read_table(dataset, "further_evaluations").to_pylist()
    (whole,) = [e for e in found if e["split"] == "test" and e["scenario"] == "all"]
    of_day = features.filter(pc.equal(features["ds"], str(days[-1])))
    assert whole["positives"] == pc.sum(of_day["label_purchase"]).as_py() and whole["auc"] is not None
