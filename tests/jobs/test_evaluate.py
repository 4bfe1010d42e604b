"""Evaluations from stored predictions."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from jobs.evaluate import sessions_of
from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from lake.locations import artifact_path
from msr_models.evaluation.reliability import calibration_error
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from tests.support.steps import evaluate, train
from tests.support.tiny_lake import tiny_dataset, write_masks, write_shared_set, write_tiny_lake

DAYS = [date(2026, 1, d) for d in (2, 3, 4, 5)]
DS = DAYS[-1]


def table(spec: DatasetSpec) -> list[dict[str, Any]]:
    rows = lake_reader.read_table(spec, "evaluations").to_pylist()
    return sorted(rows, key=lambda r: (r["ratio"], r["split"], r["scenario_id"]))


@pytest.fixture(scope="module")
def spec(module_lake: Path) -> DatasetSpec:
    spec = tiny_dataset(scenarios=("home", "feed", "ads", "never"))
    write_tiny_lake(spec, DAYS, rows_per_day=300)
    # nobody visits the last scenario
    for ds in DAYS:
        _without_scenario(spec, ds, 3)
    write_masks(spec, "set", DAYS[:3], rows_per_day=300)
    write_shared_set(spec, "set", (DAYS[0], DAYS[1]))
    train(spec, DS)
    return spec


def _without_scenario(spec: DatasetSpec, ds: date, scenario: int) -> None:
    import pyarrow.compute as pc

    from lake.arrow_writer import overwrite_partition

    rows = lake_reader.read_table(spec, "scenario_features", days=[ds])
    overwrite_partition(
        rows.filter(pc.not_equal(rows["scenario_id"], scenario)), spec, "scenario_features", {"ds": str(ds)}
    )


def test_rows_per_run_split_and_scenario_equal_scikit_learn(
    spec: DatasetSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(spec, DS)
    rows = table(spec)
    assert len(rows) == 3 * 2 * 5
    runs = {r["run_id"]: r for r in lake_reader.read_table(spec, "training_runs").to_pylist()}
    for row in rows:
        predictions = pq.read_table(artifact_path(spec, runs[row["run_id"]]["predictions_uri"])).to_pandas()
        mine = predictions[predictions.split == row["split"]]
        if row["scenario_id"] >= 0:
            mine = mine[mine.scenario_id == row["scenario_id"]]
        assert row["rows"] == len(mine) and row["positives"] == mine.label.sum()
        assert row["scenario"] == ("all" if row["scenario_id"] < 0 else spec.scenario.names[row["scenario_id"]])
        if row["scenario"] == "never":
            assert (row["rows"], row["auc"], row["logloss"], row["single_class_scenarios"]) == (0, None, None, 1)
            continue
        assert row["auc"] == pytest.approx(roc_auc_score(mine.label, mine.prob), abs=1e-12)
        assert row["logloss"] == pytest.approx(log_loss(mine.label, mine.prob), rel=1e-12)
        assert row["logloss_raw"] == pytest.approx(log_loss(mine.label, mine.prob_raw), rel=1e-12)
        assert row["calibration"] == pytest.approx(mine.prob.sum() / mine.label.sum())
        assert row["calibration_raw"] == pytest.approx(mine.prob_raw.sum() / mine.label.sum())
        assert row["ece"] == calibration_error(mine.prob.to_numpy(), mine.label.to_numpy())
        assert row["ece_raw"] == calibration_error(mine.prob_raw.to_numpy(), mine.label.to_numpy())
        if row["scenario_id"] >= 0:
            assert row["auc"] == pytest.approx(roc_auc_score(mine.label, mine.prob_raw), abs=1e-9)
        assert row["auc_low"] < row["auc"] < row["auc_high"]
    for row in rows:
        if row["scenario"] == "all" and row["split"] == "validation":
            assert row["mean_scenario_auc"] == pytest.approx(runs[row["run_id"]]["validation_auc"], abs=1e-12)
            assert row["logloss_raw"] == pytest.approx(runs[row["run_id"]]["validation_logloss"], rel=1e-12)
            calibrated = runs[row["run_id"]]["validation_calibrated_logloss"]
            assert row["logloss"] == pytest.approx(calibrated, rel=1e-12) and calibrated < row["logloss_raw"]
            assert row["single_class_scenarios"] == 1
    out = capsys.readouterr().out
    assert "(selected)" in out and "ECE before" in out and "1 scenario(s) with one class only" in out
    assert all(name in out for name in spec.scenario.names)


def test_a_second_time_gives_the_same_rows(spec: DatasetSpec) -> None:
    evaluate(spec, DS)
    first = table(spec)
    evaluate(spec, DS, model="shared_bottom")
    assert table(spec) == first


def test_gains_over_the_floor_and_over_no_sharing(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = {"name": "shared_bottom", "options": {"embedding_dim": 4, "hidden": [16, 8]}}
    training = {"window_days": 3, "batch_size": 128, "max_epochs": 2, "learning_rate": 0.01, "ratios": [0.0, 0.5, 1.0]}
    spec = tiny_dataset(training=training | {"models": [own], "floor": True})
    write_tiny_lake(spec, DAYS, rows_per_day=300)
    write_masks(spec, "set", DAYS[:3], rows_per_day=300)
    write_shared_set(spec, "set", (DAYS[0], DAYS[1]))
    train(spec, DS)
    evaluate(spec, DS)
    runs = lake_reader.read_table(spec, "training_runs").to_pylist()
    assert {r["model"] for r in runs} == {"shared_bottom", "logistic_regression"}
    (floor,) = [r for r in runs if r["model"] == "logistic_regression"]
    (chosen,) = [r for r in runs if r["model"] == "shared_bottom" and r["is_selected"]]
    assert floor["is_selected"] and floor["arm"] == "mt_backbone"
    gains = lake_reader.read_table(spec, "gains").to_pylist()
    assert {(g["model"], g["baseline"]) for g in gains} == {
        ("shared_bottom", "floor"), ("shared_bottom", "mt_backbone"), ("logistic_regression", "mt_backbone")
    }  # fmt: skip
    losses = {(r["run_id"], r["scenario_id"]): r for r in table(spec) if r["split"] == "test"}
    for gain in gains:
        if gain["baseline"] != "floor":
            continue
        assert (gain["run_id"], gain["baseline_run_id"]) == (chosen["run_id"], floor["run_id"])
        assert gain["low"] < gain["gain"] < gain["high"]
        if gain["scenario_id"] == -2:
            continue
        ours, theirs = (losses[gain[name], gain["scenario_id"]] for name in ("run_id", "baseline_run_id"))
        sign = 1 if gain["metric"] == "auc" else -1
        assert gain["gain"] == pytest.approx(sign * (ours[gain["metric"]] - theirs[gain["metric"]]), abs=1e-12)
    out = capsys.readouterr().out
    assert "AUC logistic_regression" in out and "logloss logistic_regression" in out
    before = lake_reader.read_table(spec, "gains").sort_by([(n, "ascending") for n in ("model", "baseline", "metric")])
    evaluate(spec, DS, model="shared_bottom")
    after = lake_reader.read_table(spec, "gains").sort_by([(n, "ascending") for n in ("model", "baseline", "metric")])
    assert before.equals(after), "one model is compared with the floor too"


def test_predictions_from_before_calibration_are_evaluated(lake: Path) -> None:
    spec = tiny_dataset()
    write_tiny_lake(spec, DAYS, rows_per_day=300)
    train(spec, DS)
    (run,) = lake_reader.read_table(spec, "training_runs").to_pylist()
    path = artifact_path(spec, run["predictions_uri"])
    pq.write_table(pq.read_table(path).drop_columns(["prob_raw"]), path)
    evaluate(spec, DS)
    for row in table(spec):
        assert row["logloss_raw"] == row["logloss"] and row["ece_raw"] == row["ece"]


def test_no_runs(spec: DatasetSpec, caplog: pytest.LogCaptureFixture) -> None:
    evaluate(spec, DAYS[0])
    assert "no runs to evaluate" in caplog.text
    with pytest.raises(TrainingError, match=r"no runs of model 'star' on 2026-01-05.*--model star"):
        evaluate(spec, DS, model="star")


def test_lost_predictions_are_one_error(spec: DatasetSpec) -> None:
    path = artifact_path(spec, lake_reader.read_table(spec, "training_runs").to_pylist()[0]["predictions_uri"])
    data = path.read_bytes()
    try:
        path.write_bytes(data[:100])
        with pytest.raises(TrainingError, match=r"predictions .* cannot be read .*train_target_model .*--retrain"):
            evaluate(spec, DS)
    finally:
        path.write_bytes(data)


def test_sessions_are_those_of_the_log_and_else_a_users_day(lake: Path) -> None:
    columns = tiny_dataset().columns.model_dump() | {"session": "request"}
    dataset = tiny_dataset(columns=columns)
    day = "2026-01-05"
    sessions = ["s1", "s1", None, None, "s2"]
    impressions = pa.table({
        "ds": [day] * 5,
        "instance_id": [1, 2, 3, 4, 5],
        "event_ts": pa.array([0] * 5, pa.timestamp("us", "UTC")),
        "scenario_id": pa.array([0] * 5, pa.int32()),
        "user_id": ["a"] * 5,
        "item_id": ["i"] * 5,
        "label": pa.array([0, 1, 0, 1, 0], pa.int32()),
        "value": pa.nulls(5, pa.float64()),
        "session_id": pa.array(sessions, pa.string()),
        "weight": pa.nulls(5, pa.float64()),
        "spec_fingerprint": ["f"] * 5,
        **{f.raw_column: pa.nulls(5, t) for f, t in zip(dataset.fields, _raw_types(dataset), strict=True)},
    })  # fmt: skip
    overwrite_partition(impressions, dataset, "impressions", {"ds": day})
    part = pa.table({"ds": [day] * 5, "instance_id": [5, 3, 1, 4, 2], "user_key": [7, 7, 7, 8, 9]})
    found = sessions_of(dataset, part).tolist()
    assert found[2] == found[4] and len(set(found)) == 4, "rows 1 and 2 are s1; rows 3 and 4 are of two users"
    assert sessions_of(tiny_dataset(), part).tolist() == [7, 7, 7, 8, 9]


def _raw_types(dataset: DatasetSpec) -> list[pa.DataType]:
    kinds = {"categorical": pa.string(), "numeric": pa.float64(), "multi_valued": pa.list_(pa.string())}
    return [kinds[field.kind] for field in dataset.fields]
