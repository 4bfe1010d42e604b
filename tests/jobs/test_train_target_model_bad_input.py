"""Bad input of the training step: one error that says what and where, and nothing of former runs changed."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from jobs import train_target_model
from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from lake.files import write_bytes
from lake.locations import artifact_path, artifacts_dir, table_uri
from msr_models.training.target import train_arm
from schemas.dataset_spec import DatasetSpec
from schemas.errors import MsrError
from tests.support.empty_days import publish_empty
from tests.support.lake_copies import copy_lake
from tests.support.steps import train as run
from tests.support.tiny_lake import tiny_dataset, tiny_day, write_masks, write_shared_set, write_tiny_lake

ROWS = 120
DAYS = [date(2026, 1, d) for d in range(2, 8)]
FIRST, NEXT = DAYS[3], DAYS[4]
MODEL = "shared_bottom"
SETTINGS: dict[str, Any] = {
    "window_days": 3,
    "batch_size": 64,
    "max_epochs": 1,
    "ratios": [0.0],
    "models": [{"name": MODEL, "options": {"embedding_dim": 4, "hidden": [8]}}],
    "start": "previous_day",
}


def daily(*, scenarios: tuple[str, ...] = ("home", "feed", "ads"), **changes: object) -> DatasetSpec:
    days = {"start": "2026-01-01", "allow_empty": True}
    return tiny_dataset(scenarios=scenarios, training=SETTINGS | changes, days=days)


@pytest.fixture
def spec(lake: Path) -> DatasetSpec:
    """The first two trainable days are trained, with a shared set on the second."""
    spec = daily()

    def build() -> None:
        write_tiny_lake(spec, DAYS, rows_per_day=ROWS)
        write_masks(spec, "set", DAYS, rows_per_day=ROWS)
        write_shared_set(spec, "set", (DAYS[0], DAYS[3]))
        run(spec, FIRST, NEXT)

    copy_lake(lake, __name__, build)
    return spec


def stored(spec: DatasetSpec) -> dict[str, str]:
    """Every file of the runs and of their table, by content; what an unfinished run would go on from lies apart."""
    folders = [artifacts_dir(spec), Path(table_uri(spec, "training_runs"))]
    files = [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file() and p.parent.name != "resume"]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def refused(spec: DatasetSpec, message: str, *days: date, **options: Any) -> None:
    before = stored(spec)
    assert before
    with pytest.raises(MsrError, match=message):
        run(spec, *days, **options)
    assert stored(spec) == before


def rows_of(spec: DatasetSpec, ds: date) -> list[dict[str, Any]]:
    rows = lake_reader.read_table(spec, "training_runs", days=[ds]).to_pylist()
    return sorted(rows, key=lambda r: r["ratio"])


def replace_checkpoint(spec: DatasetSpec, ds: date, change: dict[str, Any]) -> None:
    """Other metadata in the checkpoints of a day, whose rows then name these files."""
    rows = lake_reader.read_table(spec, "training_runs", days=[ds])
    sums = []
    for row in rows.to_pylist():
        path = artifact_path(spec, row["checkpoint_uri"])
        content = torch.load(path, weights_only=True)
        torch.save(content | {"metadata": json.dumps(json.loads(content["metadata"]) | change)}, path)
        sums.append(write_bytes(path, path.read_bytes()))
    at = rows.column_names.index("checkpoint_sha256")
    rows = rows.set_column(at, "checkpoint_sha256", pa.array(sums))
    overwrite_partition(rows, spec, "training_runs", {"ds": str(ds), "model": MODEL})


def make_empty(spec: DatasetSpec, *days: date) -> None:
    publish_empty(spec, *days)
    for ds in days:
        features, _ = tiny_day(spec, ds, ROWS)
        overwrite_partition(features.slice(0, 0), spec, "scenario_features", {"ds": str(ds)})


def relabel(spec: DatasetSpec, label: int, *days: date) -> None:
    for ds in days:
        features, _ = tiny_day(spec, ds, ROWS)
        labels = pa.array([label] * ROWS, pa.int32())
        features = features.set_column(features.column_names.index("label"), "label", labels)
        overwrite_partition(features, spec, "scenario_features", {"ds": str(ds)})
    write_masks(spec, "set", days, rows_per_day=ROWS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "logistic_regression", "options": {}}, "does not fit model 'logistic_regression'"),
        ({"options": {"embedding_dim": 4, "hidden": [8], "dropout": 0.5}}, r"options .*0\.5.*, this run has"),
        ({"vocabulary_version": "20260104-00000000"}, "vocabulary lineage '00000000', this run has"),
        ({"scenarios": ["home", "feed", "cart", "ads"]}, "does not fit"),
        ({"format": 99}, "written in another format"),
        ({"surplus": 1}, "written in another format"),
    ],
)
def test_a_checkpoint_of_something_else_is_no_start(change: dict[str, Any], message: str, spec: DatasetSpec) -> None:
    replace_checkpoint(spec, FIRST, change)
    refused(spec, rf"{MODEL}-{NEXT}-\w+ starts from run {MODEL}-{FIRST}-\w+ of {FIRST}: .*({message})", NEXT)


def test_a_truncated_checkpoint_is_not_repeated_from(spec: DatasetSpec) -> None:
    row = rows_of(spec, NEXT)[0]
    weights = artifact_path(spec, rows_of(spec, FIRST)[0]["checkpoint_uri"])
    weights.write_bytes(weights.read_bytes()[:-100])
    manifest = artifact_path(spec, row["checkpoint_uri"]).parent / "manifest.json"
    refused(spec, rf"{row['run_id']} starts from run .*sha256 \w+, expected \w+", manifest=manifest)


def test_other_scenarios_and_lineages_are_named_on_both_sides(spec: DatasetSpec) -> None:
    manifest = artifact_path(spec, rows_of(spec, NEXT)[0]["checkpoint_uri"]).parent / "manifest.json"
    more = daily(scenarios=("cart", "home", "feed", "ads"))
    refused(
        more, r'scenario.values was \["home", "feed", "ads"\], the YAML says \["cart", "home", "feed", "ads"\]', NEXT
    )
    refused(
        more,
        r"scenarios .*'ads'.*, not of 'tiny' with '\w+' and .*'cart'.*give --dataset tiny as it was",
        manifest=manifest,
    )
    other = tiny_dataset(training=SETTINGS, vocabulary={"fit_days": 1, "refresh_days": 2})
    assert other.lineage != spec.lineage
    refused(other, rf"lineage '{spec.lineage}'.*not of 'tiny' with '{other.lineage}'", manifest=manifest)
    refused(
        other, r"vocabulary.refresh_days was not set, the YAML says 2; undo the change, or run in this order", DAYS[5]
    )


def test_a_manifest_of_another_trainer_is_refused(spec: DatasetSpec, tmp_path: Path) -> None:
    manifest = json.loads(rows_of(spec, NEXT)[0]["manifest"])
    manifest["trainer"]["momentum"] = 0.9
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    refused(spec, r"another version of the trainer .*\['momentum'\]", manifest=tmp_path / "manifest.json")


def test_a_manifest_whose_settings_are_not_allowed_is_refused(spec: DatasetSpec, tmp_path: Path) -> None:
    manifest = json.loads(rows_of(spec, NEXT)[0]["manifest"])
    manifest["trainer"]["batch_size"] = 0
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    refused(spec, r"manifest's trainer: option batch_size: 0 is not allowed", manifest=tmp_path / "manifest.json")


def test_a_manifest_is_repeated_with_its_own_settings_alone(spec: DatasetSpec, tmp_path: Path) -> None:
    wrong = {"manifest": tmp_path / "manifest.json", "ratio": 0.5, "from": NEXT, "to": NEXT}
    refused(spec, r"--manifest repeats a run .*; leave out --from, --ratio, --to$", **wrong)


def test_a_mask_set_of_another_data_set_is_refused(spec: DatasetSpec) -> None:
    write_shared_set(spec, "strange", (DAYS[0], DAYS[1]), vocabulary_version="20260102-00000000")
    other = tiny_dataset("other")
    write_shared_set(other, "others", (DAYS[0], DAYS[1]))
    refused(spec, r"strange was searched in 'tiny' with vocabulary lineage '00000000'", NEXT, shared_set="strange")
    refused(spec, r"'others' is not in tiny/shared_instance_sets; known: ", NEXT, shared_set="others")


@pytest.mark.parametrize(
    ("empty", "message"),
    [
        ([DAYS[2], DAYS[3], DAYS[4]], r"no impressions in 2026-01-04 .. 2026-01-06 \(all days are published empty\)"),
        ([DAYS[4]], r"no impressions in 2026-01-06 .. 2026-01-06: nothing to train on or to validate with"),
    ],
)
def test_a_window_without_rows_is_refused(empty: list[date], message: str, spec: DatasetSpec) -> None:
    make_empty(spec, *empty)
    refused(spec, message, DAYS[5])


def test_a_window_without_training_rows_is_refused_from_scratch(spec: DatasetSpec) -> None:
    make_empty(spec, DAYS[0], DAYS[1])
    refused(daily(start="scratch"), r"no impressions in 2026-01-02 .. 2026-01-03: nothing to train", FIRST)


@pytest.mark.parametrize("label", [0, 1])
def test_a_label_of_one_class_is_refused(label: int, spec: DatasetSpec) -> None:
    relabel(spec, label, DAYS[2])
    refused(spec, rf"all {ROWS} labels of tiny .* are {label}: nothing can be learned", NEXT, retrain=True)
    relabel(spec, label, DAYS[0], DAYS[1])
    refused(spec, rf"all {2 * ROWS} labels of tiny .* are {label}: nothing can be learned", FIRST, retrain=True)


def test_a_run_that_breaks_off_in_its_last_arm_changes_nothing(
    spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    relabelled, _ = tiny_day(spec, DAYS[3], ROWS, seed=5)  # other rows: new runs, which may leave no file behind
    labels = relabelled["label"]
    features, _ = tiny_day(spec, DAYS[2], ROWS)
    features = features.set_column(features.column_names.index("label"), "label", labels)
    overwrite_partition(features, spec, "scenario_features", {"ds": str(DAYS[2])})
    write_masks(spec, "set", [DAYS[2]], rows_per_day=ROWS)
    before, whole = stored(spec), train_arm

    def fail_at_1(data: Any, planned: Any, *rest: Any, **named: Any) -> Any:
        if planned.ratio == 1:
            raise MsrError("no more")
        return whole(data, planned, *rest, **named)

    monkeypatch.setattr(train_target_model, "train_arm", fail_at_1)
    with pytest.raises(MsrError, match="no more"):
        run(spec, NEXT)
    assert stored(spec) == before
