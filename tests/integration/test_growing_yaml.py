"""Scenarios that are appended and fields that begin later: old days, sets, ids and warm weights stay as they are."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import build_scenario_features, check_sources, ingest_impressions
from jobs.hash_tables import hash_lake
from lake.provenance import require_current
from lake.reader import read_table
from lake.rows import read_rows
from lake.vocabularies import read_vocabulary
from msr_models.data.window import load_window
from msr_models.training.checkpoint import load_checkpoint
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.tables.shared_instance_sets import SharedSet
from schemas.tables.training_runs import TrainingRun
from tests.support.changing_log import DAYS, HEADER, build, changed, load, rows_of, write_log
from tests.support.steps import command_line, run_step, score, search, train
from tests.support.tiny_lake import SMALL_SEARCH

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.usefixtures("spark")]

TABLES = ("impressions", "vocabularies", "behaviour_sequences", "scenario_features")
NEXT = DAYS[-1] + timedelta(days=1)  # the first day with the new scenario or field
LAST = NEXT + timedelta(days=1)
SMALL_MODEL = [{"name": "shared_bottom", "options": {"embedding_dim": 4, "hidden": [4]}}]

TARGET = {"model": "shared_bottom"}  # the floor is trained beside it


def small(raw: dict[str, Any]) -> None:
    raw["search"] = SMALL_SEARCH | {"window_days": 2}
    raw["training"] |= {"models": SMALL_MODEL, "ratios": [0.0, 0.5]}


def with_ads(raw: dict[str, Any]) -> None:
    small(raw)
    raw["scenario"]["values"] = ["home", "cart", "ads"]


def with_device(raw: dict[str, Any]) -> None:
    small(raw)
    field = {"name": "device", "source": "device", "since": str(NEXT)}
    hour = {"name": "rid", "source": "liked", "kind": "numeric", "binning": {"quantiles": 3}, "since": str(NEXT)}
    raw["fields"][2:2] = [field, hour]


@pytest.fixture
def grown(lake: Path, tmp_path: Path) -> tuple[Path, DatasetSpec, str]:
    """A lake with a set and a run of the last old day, and the files of two more days."""
    write_log(tmp_path)
    dataset = load(tmp_path, changed(small))
    build(dataset)
    search(dataset, DAYS[-1])
    train(dataset, DAYS[-1])
    write_log(tmp_path, [*DAYS, NEXT, LAST])
    (found,) = read_rows(dataset, SharedSet)
    return tmp_path, dataset, found.shared_set_id


def weights(dataset: DatasetSpec, ds: date, ratio: float) -> dict[str, Any]:
    from lake.locations import artifact_path

    (run,) = [r for r in read_rows(dataset, TrainingRun, days=[ds], filters=TARGET) if r.ratio == ratio]
    model, _ = load_checkpoint(artifact_path(dataset, run.checkpoint_uri), run.checkpoint_sha256)
    return dict(model.state_dict())


def test_an_appended_scenario_keeps_days_sets_and_weights(grown: tuple[Path, DatasetSpec, str]) -> None:
    home, old, set_id = grown
    before = set(hash_lake(old, TABLES, []))
    dataset = load(home, changed(with_ads))
    assert dataset.lineage == old.lineage
    run_step(build_scenario_features, dataset, NEXT, LAST)
    assert before <= set(hash_lake(dataset, TABLES, [])), "old days were touched"
    window = load_window(dataset, [*DAYS[1:], NEXT, LAST])
    rows_K = np.bincount(window.scenario_N.numpy(), minlength=3)
    assert window.scenario_names == ("home", "cart", "ads") and rows_K[2] == 12, "two days of the new scenario"
    score(dataset, LAST)
    masks = read_table(dataset, "shared_instance_masks", days=[NEXT], filters={"shared_set_id": set_id})
    assert masks.num_rows == 60 and set(masks["scenario_id"].to_pylist()) == {0, 1, 2}
    train(dataset, NEXT)
    (run,) = [r for r in read_rows(dataset, TrainingRun, days=[NEXT], filters=TARGET) if r.ratio == 0.0]
    manifest = json.loads(run.manifest)
    assert manifest["scenarios"] == ["home", "cart", "ads"] and manifest["predecessor"]["ds"] == str(DAYS[-1])
    tower, before_tower = (weights(dataset, ds, 0.0)["towers.layers.0.weight"] for ds in (NEXT, DAYS[-1]))
    assert (tower.shape[0], before_tower.shape[0]) == (3, 2)


def test_a_field_that_begins_later_is_unknown_before(grown: tuple[Path, DatasetSpec, str]) -> None:
    home, old, set_id = grown
    before = list(hash_lake(old, TABLES, [*DAYS]))
    ids = {v: read_vocabulary(old, v).sort_by([("field", "ascending"), ("id", "ascending")]) for v in _versions(old)}
    fingerprint = load_window(old, DAYS[1:]).fingerprint
    dataset = load(home, changed(with_device))
    assert dataset.lineage == old.lineage
    assert load_window(dataset, DAYS[1:]).fingerprint == fingerprint, "windows of old days stay as they were"
    run_step(build_scenario_features, dataset, NEXT, LAST)
    assert list(hash_lake(old, TABLES, [*DAYS])) == before, "old days were touched"
    for version, rows in ids.items():
        assert read_vocabulary(dataset, version).sort_by([("field", "ascending"), ("id", "ascending")]) == rows
    window = load_window(dataset, [DAYS[-1], NEXT, LAST])
    slot = window.layout.slot_starts[window.layout.names.index("device")]
    known_N = window.slot_ids_NS[:, slot] > 0
    # A value needs a version that was fitted on a day with the field
    assert not known_N[window.rows_of([DAYS[-1], NEXT])].any() and known_N[window.rows_of([LAST])].all()
    bins = window.slot_ids_NS[:, window.layout.slot_starts[window.layout.names.index("rid")]]
    assert bins[window.rows_of([LAST])].min() >= 1
    score(dataset, LAST)
    assert read_table(dataset, "shared_instance_masks", days=[NEXT], filters={"shared_set_id": set_id}).num_rows == 54
    train(dataset, NEXT)
    train(dataset, LAST)
    assert (
        weights(dataset, LAST, 0.0)["towers.layers.0.weight"].shape[1]
        > (weights(dataset, DAYS[-1], 0.0)["towers.layers.0.weight"].shape[1])
    )
    retyped = changed(with_device)
    retyped["fields"][2]["min_count"] = 5
    with pytest.raises(TableError, match=r"fields.device.min_count was not set, the YAML says 5"):
        require_current(load(home, retyped), "scenario_features", [LAST])
    with pytest.raises(TableError, match=r"give the changed field a new name with a later `since`"):
        run_step(build_scenario_features, load(home, retyped), LAST)


def _versions(dataset: DatasetSpec) -> list[str]:
    return [v for day in DAYS[1:] if (v := dataset.vocabulary_version(day))]


def test_a_file_that_was_delivered_again_is_noticed_and_made_anew(
    lake: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path)
    dataset = load(tmp_path)
    build(dataset)
    path = tmp_path / "log" / f"{DAYS[1]}.csv"
    path.touch()  # another time, the same content
    run_step(check_sources, dataset)
    assert "4 ingested days, no file has changed and nothing is stale" in caplog.text
    more = [line.replace(",u", ",w") for line in rows_of(DAYS[1])]
    path.write_text("\n".join([HEADER, *more, ""]), encoding="utf-8")
    caplog.clear()
    run_step(check_sources, dataset)
    assert f"changing {DAYS[1]}: " in caplog.text and f"{path} changed (" in caplog.text
    run_step(ingest_impressions, dataset, DAYS[1])
    with pytest.raises(TableError, match=rf"made from rows that have changed since: impressions {DAYS[1]}; .*build_"):
        load_window(dataset, DAYS[1:])
    assert command_line(check_sources, ["--dataset", tmp_path / "changing.yaml", "--reingest"], monkeypatch) == 0
    load_window(dataset, DAYS[1:])
    caplog.clear()
    run_step(check_sources, dataset)
    assert "no file has changed and nothing is stale" in caplog.text
