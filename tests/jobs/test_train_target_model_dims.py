"""Fields with an `embedding_dim`: daily training, its manifest, and what happens when the YAML's width changes."""

from __future__ import annotations

import json
import logging
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lake import reader as lake_reader
from lake.locations import artifact_path, artifacts_dir
from msr_models.training.checkpoint import load_checkpoint
from msr_models.training.manifest import parse_manifest
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from tests.support.steps import train
from tests.support.tiny_lake import MAX_TAGS, NUM_PRICES, tiny_dataset, write_tiny_lake

DAYS = [date(2026, 1, d) for d in range(2, 8)]
FIRST, SECOND = DAYS[3], DAYS[4]
SETTINGS: dict[str, Any] = {
    "window_days": 3,
    "batch_size": 64,
    "max_epochs": 1,
    "learning_rate": 0.01,
    "ratios": [0.0],
    "models": [{"name": "shared_bottom", "options": {"embedding_dim": 4, "hidden": [8]}}],
    "start": "previous_day",
}


def spec_of(**dims: int) -> DatasetSpec:
    fields: list[dict[str, Any]] = [
        {"name": "user", "source": "u"},
        {"name": "item", "source": "i"},
        {"name": "tags", "source": "g", "kind": "multi_valued", "max_values": MAX_TAGS},
        {"name": "price", "source": "p", "kind": "numeric", "binning": {"quantiles": NUM_PRICES}},
    ]
    fields = [f | ({"embedding_dim": dims[f["name"]]} if f["name"] in dims else {}) for f in fields]
    return tiny_dataset(training=SETTINGS, fields=fields)


def manifests(spec: DatasetSpec, ds: date) -> list[dict[str, Any]]:
    return [json.loads(r["manifest"]) for r in lake_reader.read_table(spec, "training_runs", days=[ds]).to_pylist()]


@pytest.fixture
def lake_of_days(lake: Path) -> None:
    write_tiny_lake(spec_of(), DAYS, rows_per_day=120)


@pytest.mark.usefixtures("lake_of_days")
def test_a_day_trains_with_narrow_rows_and_goes_on_from_the_day_before(caplog: pytest.LogCaptureFixture) -> None:
    spec = spec_of(user=2, price=1)
    assert spec.lineage == spec_of().lineage, "tables do not know the key"
    train(spec, SECOND)
    (first,), (second,) = manifests(spec, FIRST), manifests(spec, SECOND)
    assert first["embedding_dims"] == second["embedding_dims"] == {"user": 2, "price": 1}
    assert second["predecessor"]["run_id"] == first["run_id"]
    (row,) = lake_reader.read_table(spec, "training_runs", days=[SECOND]).to_pylist()
    model, card = load_checkpoint(artifact_path(spec, row["checkpoint_uri"]), row["checkpoint_sha256"])
    weights = {name: tuple(w.shape) for name, w in model.state_dict().items() if "embedding" in name}
    user, item, tags, price, *of_statistics = card.layout.num_rows
    assert weights == {
        "inputs.embedding.tables.1.weight": (price, 1),
        "inputs.embedding.tables.2.weight": (user, 2),
        "inputs.embedding.tables.4.weight": (item + tags + sum(of_statistics), 4),
        "inputs.embedding.projection_user": (2, 4),
        "inputs.embedding.projection_price": (1, 4),
    }
    # The manifest decides, not the YAML of today
    with caplog.at_level(logging.INFO):
        train(spec_of(), SECOND, manifest=artifacts_dir(spec) / "runs" / second["run_id"] / "manifest.json")
    assert any("the same metrics and calibration" in message for message in caplog.messages)


@pytest.mark.usefixtures("lake_of_days")
def test_another_width_than_the_day_befores_is_one_error() -> None:
    train(spec_of(user=2), FIRST)
    for other, message in (
        (spec_of(user=3), r"made with fields.user.embedding_dim 2, not 3; train the days again in order"),
        (spec_of(), r"made with fields.user.embedding_dim 2, not not set; "),
        (spec_of(user=2, item=3), r"made with fields.item.embedding_dim not set, not 3; "),
    ):
        with pytest.raises(TrainingError, match=message):
            train(other, SECOND)


@pytest.mark.usefixtures("lake_of_days")
def test_runs_without_the_key_keep_their_names() -> None:
    """And manifests that were written before it existed are read as before."""
    train(spec_of(), FIRST)
    (found,) = manifests(spec_of(), FIRST)
    assert found["embedding_dims"] == {}
    del found["embedding_dims"]
    before = parse_manifest(json.dumps(found), "manifest")
    assert before.embedding_dims == {} and before.identity() == found["run_id"]
