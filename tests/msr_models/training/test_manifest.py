"""Manifests: what is part of a run's name, and what cannot be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msr_models.training.manifest import Predecessor, RunManifest, parse_manifest, read_manifest
from schemas.errors import TrainingError

BEFORE = Predecessor(
    ds="2026-01-05",
    run_id="m-2026-01-05-0123456789ab",
    ratio=0.5,
    checkpoint_sha256="a" * 64,
    chain_start="2026-01-04",
)
MANIFEST = RunManifest(
    dataset="d",
    lineage="abcd1234",
    num_scenarios=3,
    ds="2026-01-06",
    model="m",
    options={"hidden": [8]},
    arm="ssim",
    ratio=0.5,
    rank_scope="global",
    shared_set_id="set",
    trainer={"seed": 1},
    train_days=["2026-01-04"],
    validation_days=["2026-01-05"],
    vocabulary_version="20260105-abcd1234",
    table_versions={"scenario_features": 3},
    test_table_versions={"scenario_features": 3},
    fingerprints={"window": "w", "masks": "m", "test": "t"},
    threads=1,
    world_size=1,
    device="cpu",
    code_version="c",
    package_versions={"torch": "2"},
    metrics={"test_auc": 0.5},
)
WARM = replace(MANIFEST, start="previous_day", predecessor=BEFORE)


@pytest.mark.parametrize("manifest", [MANIFEST, WARM])
def test_json_and_back(manifest: RunManifest, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest.to_json())
    assert read_manifest(tmp_path / "manifest.json") == manifest


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"ratio": 0.3}, False),
        ({"fingerprints": {"window": "x"}}, False),
        ({"predecessor": replace(BEFORE, run_id="m-2026-01-05-ba9876543210")}, False),
        ({"predecessor": replace(BEFORE, checkpoint_sha256="b" * 64)}, False),
        ({"predecessor": None}, False),
        ({"table_versions": {"scenario_features": 9}}, True),
        ({"code_version": "d"}, True),
        ({"metrics": {}}, True),
    ],
)
def test_a_runs_name_follows_what_it_read_and_what_it_started_from(change: dict[str, Any], same: bool) -> None:
    assert (replace(WARM, **change).identity() == WARM.identity()) is same
    assert WARM.identity().startswith("m-2026-01-06-")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "run x cannot be read"),
        ("[]", "run x is not of format 2"),
        (MANIFEST.to_json().replace('"format": 2', '"format": 1'), "run x is not of format 2"),
        (WARM.to_json().replace('"run_id": "m-', '"id": "m-'), "run x names no run in `predecessor`"),
    ],
)
def test_anything_else_is_one_error(text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        parse_manifest(text, "run x")
