"""Weights and sampled negatives from the tables through training to evaluations, gains and the manifest."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from lake import reader as lake_reader
from lake.locations import artifact_path
from msr_models.training.manifest import parse_manifest
from schemas.dataset_spec import DatasetSpec
from tests.support.steps import evaluate, train
from tests.support.tiny_lake import tiny_dataset, write_tiny_lake

DAYS = [date(2026, 1, d) for d in (2, 3, 4, 5)]
DS = DAYS[-1]


def weighted(**training: Any) -> DatasetSpec:
    base = tiny_dataset()
    columns = base.columns.model_dump() | {"weight": "w"}
    return tiny_dataset(columns=columns, training=base.training.model_dump(mode="json") | {"floor": True} | training)


def runs_of(spec: DatasetSpec) -> dict[str, dict[str, Any]]:
    return {r["model"]: r for r in lake_reader.read_table(spec, "training_runs").to_pylist()}


def test_evaluations_and_gains_are_weighted(lake: object) -> None:
    spec = weighted()
    write_tiny_lake(spec, DAYS, rows_per_day=300)
    train(spec, DS)
    evaluate(spec, DS)
    runs = runs_of(spec)
    assert set(runs) == {"shared_bottom", "logistic_regression"}
    found = {}
    for name, run in runs.items():
        rows = pq.read_table(artifact_path(spec, run["predictions_uri"])).to_pandas()
        assert (rows.weight == 0).any()
        found[name] = rows[(rows.split == "test") & (rows.weight > 0)]
        assert json.loads(run["manifest"])["metrics"]["test_calibrated_logloss"] == pytest.approx(
            log_loss(found[name].label, found[name].prob, sample_weight=found[name].weight), rel=1e-9
        )
    ours = found["shared_bottom"]
    table = lake_reader.read_table(spec, "evaluations").to_pylist()
    (row,) = [r for r in table if (r["model"], r["split"], r["scenario"]) == ("shared_bottom", "test", "all")]
    assert row["rows"] == len(ours) < 300 and row["positives"] == ours.label.sum()
    assert row["auc"] == pytest.approx(roc_auc_score(ours.label, ours.prob, sample_weight=ours.weight), abs=1e-9)
    assert row["auc"] != pytest.approx(roc_auc_score(ours.label, ours.prob), abs=1e-4)
    assert row["logloss"] == pytest.approx(log_loss(ours.label, ours.prob, sample_weight=ours.weight), rel=1e-9)
    want = np.average(ours.prob, weights=ours.weight) / np.average(ours.label, weights=ours.weight)
    assert row["calibration"] == pytest.approx(want, rel=1e-9)
    gains = lake_reader.read_table(spec, "gains").to_pylist()
    floor = log_loss(found["logistic_regression"].label, found["logistic_regression"].prob, sample_weight=ours.weight)
    (gain,) = [g for g in gains if (g["baseline"], g["metric"], g["scenario"]) == ("floor", "logloss", "all")]
    assert gain["gain"] == pytest.approx(floor - row["logloss"], abs=1e-9)


def test_a_manifest_names_its_negative_sampling_and_is_repeated_with_it(lake: object) -> None:
    spec = weighted(negative_sampling={"home": 0.3}, floor=False)
    write_tiny_lake(spec, DAYS, rows_per_day=300)
    train(spec, DS)
    sampled = runs_of(spec)["shared_bottom"]
    assert json.loads(sampled["manifest"])["negative_sampling"] == {"home": 0.3}
    # Whatever the YAML says by then
    manifest = artifact_path(spec, sampled["predictions_uri"]).parent / "manifest.json"
    train(weighted(floor=False), manifest=manifest)
    train(weighted(floor=False), DS)
    whole = runs_of(spec)["shared_bottom"]
    assert whole["run_id"] != sampled["run_id"] and sampled["train_rows"] < whole["train_rows"]
    assert json.loads(whole["manifest"])["negative_sampling"] is None


def test_manifests_from_before_negative_sampling_can_be_read(lake: object) -> None:
    spec = weighted(floor=False)
    write_tiny_lake(spec, DAYS, rows_per_day=100)
    train(spec, DS)
    raw = json.loads(runs_of(spec)["shared_bottom"]["manifest"])
    del raw["negative_sampling"]
    read = parse_manifest(json.dumps(raw), "manifest")
    assert read.negative_sampling is None and read.identity() == raw["run_id"]
