"""Clicks and purchases: trained, calibrated, predicted, evaluated and repeated, with and without ESMM's product."""

from __future__ import annotations

import json
import logging
import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from jobs import report
from lake import reader as lake_reader
from lake.locations import artifact_path, report_dir
from msr_models.evaluation.calibration import read_calibration
from msr_models.training.checkpoint import load_checkpoint
from msr_models.training.predictions import read_predictions, write_predictions
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from tests.support.steps import evaluate, run_step, train
from tests.support.tiny_lake import tiny_dataset, write_tiny_lake

DAYS = [date(2026, 1, d) for d in (2, 3, 4, 5)]
DS = DAYS[-1]
TRAINING = tiny_dataset().training.model_dump(mode="json")


def spec_of(**training: Any) -> DatasetSpec:
    columns = tiny_dataset().columns.model_dump() | {"further_labels": {"purchase": {"column": "b"}}}
    return tiny_dataset(columns=columns, training=TRAINING | {"floor": True, "max_epochs": 4} | training)


ESMM = {"labels": {"esmm": True, "weights": {"purchase": 2.0}}}


@pytest.fixture
def spec(lake: Path) -> DatasetSpec:
    write_tiny_lake(spec_of(), DAYS, rows_per_day=400)
    return spec_of(**ESMM)


def runs_of(spec: DatasetSpec) -> dict[str, dict[str, Any]]:
    return {run["model"]: run for run in lake_reader.read_table(spec, "training_runs").to_pylist()}


def predictions(spec: DatasetSpec, model: str) -> pa.Table:
    return read_predictions(artifact_path(spec, runs_of(spec)[model]["predictions_uri"]))


def test_a_day_has_probabilities_and_metrics_of_every_label(
    spec: DatasetSpec, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MSR_REPORT_DIR", str(tmp_path / "report"))
    train(spec, DS)
    rows = predictions(spec, "shared_bottom")
    assert rows.column_names[-3:] == ["label_purchase", "prob_purchase", "prob_raw_purchase"]
    features = lake_reader.read_table(spec, "scenario_features", days=[DS]).sort_by("instance_id")
    test = rows.filter(pa.compute.equal(rows["split"], "test")).sort_by("instance_id")
    assert test["label_purchase"].equals(features["label_purchase"])
    assert (test["prob_raw_purchase"].to_numpy() < test["prob_raw"].to_numpy()).all(), "a product"
    path = tmp_path / "again.parquet"
    write_predictions(path, [rows])  # as forget_user does
    assert read_predictions(path).equals(rows)
    model, _ = load_checkpoint(artifact_path(spec, runs_of(spec)["shared_bottom"]["checkpoint_uri"]))
    assert model.further_labels == ("purchase",)
    folder = artifact_path(spec, runs_of(spec)["shared_bottom"]["predictions_uri"]).parent
    curves = read_calibration(folder / "calibration_purchase.json")
    served = curves.apply(test["prob_raw_purchase"].to_numpy(), test["scenario_id"].to_numpy())
    assert np.array_equal(served, test["prob_purchase"].to_numpy())
    assert predictions(spec, "logistic_regression").column_names[-1] == "prob_raw", "the floor knows the main label"

    evaluate(spec, DS)
    table = lake_reader.read_table(spec, "further_evaluations").to_pylist()
    assert {(e["model"], e["label"]) for e in table} == {("shared_bottom", "purchase")} and len(table) == 2 * 4
    (whole,) = [e for e in table if e["split"] == "test" and e["scenario"] == "all"]
    label, prob = test["label_purchase"].to_numpy(), test["prob_purchase"].to_numpy()
    assert whole["positives"] == label.sum() and whole["auc"] == pytest.approx(roc_auc_score(label, prob))
    assert whole["auc"] > 0.6
    (main,) = [
        e
        for e in lake_reader.read_table(spec, "evaluations").to_pylist()
        if (e["model"], e["split"], e["scenario"]) == ("shared_bottom", "test", "all")
    ]
    assert main["positives"] == test["label"].to_numpy().sum()
    printed = capsys.readouterr().out
    assert re.search(rf"purchase +all +400 +{whole['positives']} +{whole['auc']:.4f} \[", printed), printed
    run_step(report, spec)
    page = (report_dir() / "index.html").read_text(encoding="utf-8")
    assert "Further labels on 2026-01-05" in page and f"{whole['auc']:.4f}" in page


def test_a_run_repeats_from_its_manifest_and_settings_name_it(
    spec: DatasetSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train(spec, DS, model="shared_bottom")
    run = runs_of(spec)["shared_bottom"]
    manifest = json.loads(run["manifest"])
    assert manifest["trainer"]["labels"] == ESMM["labels"] and "test_auc purchase" in manifest["metrics"]
    path = tmp_path / "manifest.json"
    path.write_text(run["manifest"], encoding="utf-8")
    train(spec, manifest=path)
    assert "the same metrics and calibration" in caplog.text
    changed = json.dumps(manifest | {"metrics": manifest["metrics"] | {"test_auc purchase": 0.1}})
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(TrainingError, match="gave other metrics"):
        train(spec, manifest=path)
    light = spec_of(labels=ESMM["labels"] | {"weights": {"purchase": 1.0}})
    train(light, DS, model="shared_bottom")
    assert runs_of(light)["shared_bottom"]["checkpoint_sha256"] != run["checkpoint_sha256"]
    train(spec_of(), DS, model="shared_bottom")
    other = runs_of(spec_of())["shared_bottom"]
    assert other["run_id"] != run["run_id"] and "labels" not in json.loads(other["manifest"])["trainer"]


def test_streamed_rows_train_the_labels_too(spec: DatasetSpec) -> None:
    streamed = spec_of(loading="streamed", **ESMM)
    train(streamed, DS, model="shared_bottom")
    rows = predictions(streamed, "shared_bottom")
    assert roc_auc_score(rows["label_purchase"], rows["prob_purchase"]) > 0.6


def test_a_day_goes_on_from_the_weights_of_the_day_before(lake: Path) -> None:
    spec = spec_of(start="previous_day", **ESMM)
    days = [*DAYS, date(2026, 1, 6)]
    write_tiny_lake(spec, days, rows_per_day=200)
    train(spec, days[-1], model="mmoe")
    runs = lake_reader.read_table(spec, "training_runs").to_pylist()
    assert sorted(run["ds"] for run in runs) == ["2026-01-05", "2026-01-06"]
    assert json.loads(max(runs, key=lambda run: run["ds"])["manifest"])["start"] == "previous_day"


def test_models_of_one_label_are_refused_before_anything_is_read(
    spec: DatasetSpec, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(TrainingError, match=r"'single_task' and 'finetune' .* learn one label"):
        train(spec, DS, model="single_task")
    train(spec, DS, model="finetune", skip_unfit=True)
    assert "finetune is skipped" in caplog.text
    assert not lake_reader.table_exists(spec, "training_runs")


def test_purchases_without_a_click_are_told_where_the_product_rules_them_out(
    lake: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from lake.arrow_writer import overwrite_partition

    spec = spec_of()
    write_tiny_lake(spec, DAYS, rows_per_day=200)
    rows = lake_reader.read_table(spec, "scenario_features", days=[DAYS[0]])
    place = rows.column_names.index("label_purchase")
    bought = pa.array(np.ones(rows.num_rows, dtype=np.int32))
    overwrite_partition(
        rows.set_column(place, "label_purchase", bought), spec, "scenario_features", {"ds": str(DAYS[0])}
    )
    train(spec, DS, model="shared_bottom")
    assert "lack the main one" not in caplog.text
    train(spec_of(**ESMM), DS, model="shared_bottom")
    assert "rows with label purchase lack the main one, which training.labels.esmm rules out" in caplog.text
