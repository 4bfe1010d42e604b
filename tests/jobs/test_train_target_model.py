"""The training step on a tiny lake: arms, rows, manifests, reruns, and nothing of the future."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from lake.locations import artifact_path, artifacts_dir
from msr_models.evaluation.calibration import read_calibration
from msr_models.training.checkpoint import load_checkpoint
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError, TrainingError
from schemas.tables import get_table
from tests.support.steps import train as run
from tests.support.tiny_lake import tiny_dataset, tiny_day, write_masks, write_shared_set, write_tiny_lake

DAYS = [date(2026, 1, d) for d in (2, 3, 4, 5)]
DS = DAYS[-1]
ROWS = 200


def make_lake(spec: DatasetSpec, *, with_set: bool = True) -> None:
    write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
    if with_set:
        write_masks(spec, "set", DAYS[:2], rows_per_day=ROWS)  # the training days only
        write_shared_set(spec, "set", (DAYS[0], DAYS[1]))


def runs(spec: DatasetSpec, model: str = "shared_bottom") -> list[dict[str, Any]]:
    rows = lake_reader.read_table(spec, "training_runs", filters={"model": model}).to_pylist()
    return sorted(rows, key=lambda r: (r["ds"], r["ratio"]))


def _probs(spec: DatasetSpec) -> list[list[float]]:
    """Of every run, by ratio."""
    files = [artifact_path(spec, r["predictions_uri"]) for r in runs(spec)]
    return [pq.read_table(file)["prob"].to_pylist() for file in files]


def content(spec: DatasetSpec) -> list[dict[str, Any]]:
    columns = get_table("training_runs").content_columns
    return [{c: r[c] for c in columns} for r in runs(spec)]


@pytest.fixture(scope="module")
def spec(module_lake: Path) -> DatasetSpec:
    spec = tiny_dataset()
    make_lake(spec)
    run(spec, DS)
    return spec


def test_every_arm_has_its_row_and_the_best_on_validation_is_selected(spec: DatasetSpec) -> None:
    rows = runs(spec)
    assert [(r["arm"], r["ratio"]) for r in rows] == [("mt_backbone", 0.0), ("ssim", 0.5), ("mt_backbone_s", 1.0)]
    assert [r["shared_set_id"] for r in rows] == [None, "set", "set"]
    best = max(rows, key=lambda r: (r["validation_auc"], -r["ratio"]))
    assert [r["run_id"] for r in rows if r["is_selected"]] == [best["run_id"]]
    assert all(r["train_rows"] == 2 * ROWS and r["seed"] == 1 and r["ds"] == str(DS) for r in rows)
    assert len({r["run_id"] for r in rows}) == 3


def test_files_of_a_run(spec: DatasetSpec) -> None:
    row = runs(spec)[1]
    model, card = load_checkpoint(artifact_path(spec, row["checkpoint_uri"]), row["checkpoint_sha256"])
    assert card.model == "shared_bottom" and model.num_scenarios == 3
    predictions = pq.read_table(artifact_path(spec, row["predictions_uri"])).to_pylist()
    assert [p["split"] for p in predictions] == ["validation"] * ROWS + ["test"] * ROWS
    features, _ = tiny_day(spec, DS, ROWS)
    want = {r["instance_id"]: (r["scenario_id"], r["user_key"], r["label"]) for r in features.to_pylist()}
    test = [p for p in predictions if p["split"] == "test"]
    assert {p["instance_id"]: (p["scenario_id"], p["user_key"], p["label"]) for p in test} == want
    assert {p["ds"] for p in test} == {str(DS)} and all(0 < p["prob"] < 1 for p in test)


def test_the_manifest_names_all_that_was_read(spec: DatasetSpec) -> None:
    plain, shared = (json.loads(runs(spec)[i]["manifest"]) for i in (0, 1))
    for table in ("scenario_features", "behaviour_sequences", "vocabularies"):
        assert plain["table_versions"][table] == lake_reader.table_version(spec, table)
    assert (
        "shared_instance_masks" in shared["table_versions"] and "shared_instance_masks" not in plain["table_versions"]
    )
    assert plain["train_days"] == ["2026-01-02", "2026-01-03"] and plain["validation_days"] == ["2026-01-04"]
    assert plain["threads"] == 1 and plain["package_versions"]["torch"] in torch.__version__
    assert shared["fingerprints"]["masks"] and plain["fingerprints"]["masks"] is None


def test_a_run_is_repeated_from_its_manifest(spec: DatasetSpec, caplog: pytest.LogCaptureFixture) -> None:
    before = lake_reader.table_version(spec, "training_runs")
    row = runs(spec)[1]
    run(spec, manifest=artifact_path(spec, row["predictions_uri"]).parent / "manifest.json")
    assert f"{row['run_id']}: the same metrics" in caplog.text
    assert lake_reader.table_version(spec, "training_runs") == before


def test_a_manifest_that_does_not_hold_is_refused(spec: DatasetSpec, tmp_path: Path) -> None:
    good = json.loads(runs(spec)[1]["manifest"])
    path = tmp_path / "manifest.json"
    wrong = [
        ({"calibration_sha256": "0" * 64}, "other metrics or another calibration than recorded"),
        ({"metrics": good["metrics"] | {"test_auc": 0.5}}, "other metrics or another calibration than recorded"),
        ({"fingerprints": good["fingerprints"] | {"masks": "0"}}, "rows of masks are not those of the manifest"),
        ({"lineage": "00000000"}, "lineage '00000000'"),
        ({"surplus": 1}, r"not of format|keys that differ: \['surplus'\]"),
    ]
    for change, message in wrong:
        path.write_text(json.dumps(good | change))
        with pytest.raises(TrainingError, match=message):
            run(spec, manifest=path)
    path.write_text("{")
    with pytest.raises(TrainingError, match="cannot be read"):
        run(spec, manifest=path)


def test_a_second_time_trains_nothing_and_a_forced_one_gives_the_same_rows(
    spec: DatasetSpec, caplog: pytest.LogCaptureFixture
) -> None:
    before, version = content(spec), lake_reader.table_version(spec, "training_runs")
    run(spec, DS)
    assert "the same 3 runs exist" in caplog.text
    assert lake_reader.table_version(spec, "training_runs") == version
    run(spec, DS, retrain=True)
    assert lake_reader.table_version(spec, "training_runs") == version + 1
    assert content(spec) == before


def test_a_damaged_checkpoint_is_made_again(spec: DatasetSpec) -> None:
    row = runs(spec)[0]
    artifact_path(spec, row["checkpoint_uri"]).write_bytes(b"half")
    run(spec, DS)
    load_checkpoint(artifact_path(spec, row["checkpoint_uri"]), row["checkpoint_sha256"])


def test_a_damaged_calibration_is_made_again(spec: DatasetSpec) -> None:
    row = runs(spec)[0]
    path = artifact_path(spec, row["checkpoint_uri"]).with_name("calibration.json")
    path.write_text("{}")
    run(spec, DS)
    found = read_calibration(path, json.loads(row["manifest"])["calibration_sha256"])
    assert found.method == "platt" and found.scenarios == spec.scenario.names


def test_run_ids_depend_on_content_not_on_files_or_days_to_come(
    spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = [(r["run_id"], r["validation_auc"], r["validation_logloss"], r["is_selected"]) for r in runs(spec)]
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "other"))
    write_tiny_lake(spec, DAYS[:2], rows_per_day=ROWS, seed=9)
    write_tiny_lake(spec, [date(2026, 1, 6), *DAYS], rows_per_day=ROWS, backwards=True)
    write_masks(spec, "set", DAYS, rows_per_day=ROWS)
    write_shared_set(spec, "set", (DAYS[0], DAYS[1]))
    write_shared_set(spec, "later", (DAYS[1], DS))  # ends on ds: must not be seen
    run(spec, DS)
    assert [(r["run_id"], r["validation_auc"], r["validation_logloss"], r["is_selected"]) for r in runs(spec)] == want


def test_labels_of_the_test_day_do_not_move_training(spec: DatasetSpec, lake: Path, module_lake: Path) -> None:
    make_lake(spec)
    features, _ = tiny_day(spec, DS, ROWS)
    flipped = pa.array(1 - features["label"].to_numpy(), pa.int32())
    features = features.set_column(features.column_names.index("label"), "label", flipped)
    overwrite_partition(features, spec, "scenario_features", {"ds": str(DS)})
    run(spec, DS)
    there, probs = runs(spec), _probs(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSR_LAKE_ROOT", str(module_lake))
        here = runs(spec)
        assert probs == _probs(spec)
    for name in ("checkpoint_sha256", "validation_auc", "is_selected"):
        assert [r[name] for r in there] == [r[name] for r in here]


def test_without_a_set_only_ratio_0_is_trained(lake: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = tiny_dataset()
    make_lake(spec, with_set=False)
    run(spec, DS)
    assert [(r["arm"], r["is_selected"]) for r in runs(spec)] == [("mt_backbone", True)]
    assert "only r = 0 is trained" in caplog.text
    with pytest.raises(TrainingError, match="needs a shared set"):
        run(spec, DS, ratio=0.5)
    alone = runs(spec)[0]
    write_masks(spec, "set", DAYS[:2], rows_per_day=ROWS)
    write_shared_set(spec, "set", (DAYS[0], DAYS[1]))
    run(spec, DS)
    with_set = runs(spec)[0]
    for name in ("run_id", "checkpoint_sha256", "validation_auc", "validation_logloss"):
        assert alone[name] == with_set[name]  # r = 0 is the same run with and without a set


def test_a_window_that_is_too_short_is_skipped(spec: DatasetSpec, caplog: pytest.LogCaptureFixture) -> None:
    before = content(spec)
    run(spec, DAYS[0], DAYS[1])
    assert caplog.text.count("nothing to train on") == 2
    assert content(spec) == before


def test_a_fixed_ratio_and_a_model_without_towers(lake: Path) -> None:
    spec = tiny_dataset()
    make_lake(spec)
    run(spec, DS, ratio=0.25)
    assert [(r["ratio"], r["is_selected"]) for r in runs(spec)] == [(0.0, False), (0.25, True)]
    run(spec, DS, model="logistic_regression")
    assert [(r["arm"], r["is_selected"]) for r in runs(spec, "logistic_regression")] == [("mt_backbone", True)]
    assert len(runs(spec)) == 2  # the other model's rows stay
    with pytest.raises(TrainingError, match="'logistic_regression' has no towers"):
        run(spec, DS, model="logistic_regression", ratio=0.5)
    with pytest.raises(SharedSetError, match="'none' is not in"):
        run(spec, DS, shared_set="none")
    with pytest.raises(TrainingError, match="model 'nobody' is not known"):
        run(spec, DS, model="nobody")
    with pytest.raises(TrainingError, match="--device 'toaster' cannot be used"):
        run(spec, DS, device="toaster")
    with pytest.raises(TrainingError, match="which day"):
        run(spec)


def test_missing_masks_and_days_stop_before_anything_is_written(lake: Path) -> None:
    spec = tiny_dataset()
    make_lake(spec, with_set=False)
    write_masks(spec, "set", DAYS[:1], rows_per_day=ROWS)
    write_shared_set(spec, "set", (DAYS[0], DAYS[1]))
    with pytest.raises(SharedSetError, match=rf"2026-01-03: {ROWS} of {ROWS}.*score_shared_instances"):
        run(spec, DS)
    with pytest.raises(TrainingError, match=r"no rows of 2026-01-06.*build_scenario_features"):
        run(spec, date(2026, 1, 7))
    assert not lake_reader.table_exists(spec, "training_runs") and not artifacts_dir(spec).exists()


@pytest.mark.slow
def test_kill_9_and_a_rerun_end_in_the_same_rows(spec: DatasetSpec, lake: Path, tmp_path: Path) -> None:
    """The process is killed when the first run's checkpoint is there: files half done, no rows yet."""
    make_lake(spec)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(json.loads(spec.model_dump_json(exclude_defaults=True))))
    command = [sys.executable, "-m", "jobs.train_target_model", "--dataset", str(path), "--ds", str(DS)]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, cwd=root, env=dict(os.environ), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(lake.rglob("weights.pt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    run(spec, DS)
    got = [(r["run_id"], r["checkpoint_sha256"], r["validation_auc"], r["is_selected"]) for r in runs(spec)]
    uris = [r["checkpoint_uri"] for r in runs(spec)]
    assert len(got) == 3 and all(artifact_path(spec, u).is_file() for u in uris)
    run(spec, DS, retrain=True)
    assert [(r["run_id"], r["checkpoint_sha256"], r["validation_auc"], r["is_selected"]) for r in runs(spec)] == got
