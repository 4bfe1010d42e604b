"""Manifests: what is part of a run's name, and what cannot be read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msr_models.training.manifest import (
    PROJECT,
    Predecessor,
    RunManifest,
    package_versions,
    parse_manifest,
    read_manifest,
)
from schemas.errors import TrainingError

ROOT = Path(__file__).resolve().parents[3]
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
    scenarios=["home", "feed", "ads"],
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
        ({"embedding_dims": {}}, True),
        ({"embedding_dims": {"user": 4}}, False),
    ],
)
def test_a_runs_name_follows_what_it_read_and_what_it_started_from(change: dict[str, Any], same: bool) -> None:
    assert (replace(WARM, **change).identity() == WARM.identity()) is same
    # A name of the time before fields could have an embedding_dim: such runs keep it
    assert WARM.identity() == "m-2026-01-06-4100b7570031"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "run x cannot be read"),
        ("[]", "run x is not of format 4"),
        (MANIFEST.to_json().replace('"format": 4', '"format": 1'), "run x is not of format 4"),
        (WARM.to_json().replace('"run_id": "m-', '"id": "m-'), "run x names no run in `predecessor`"),
    ],
)
def test_anything_else_is_one_error(text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        parse_manifest(text, "run x")


def code_version_in(folder: Path) -> str:
    code = "from msr_models.training.manifest import code_version; print(code_version())"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def copied_source(tmp_path: Path) -> Path:
    """The source as an image or an installation has it: without git."""
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas", ignore=shutil.ignore_patterns("__pycache__"))
    training = tmp_path / "msr_models" / "training"
    training.mkdir(parents=True)
    shutil.copy(ROOT / "msr_models" / "training" / "manifest.py", training)
    return tmp_path


def test_the_code_version_is_the_commit_in_a_checkout() -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert code_version_in(ROOT).rstrip("+") == commit.strip()


def test_the_code_version_is_the_projects_without_git(copied_source: Path) -> None:
    (copied_source / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    assert code_version_in(copied_source) == "1.2.3"


def test_the_code_version_of_an_installed_package_is_its_own(copied_source: Path) -> None:
    metadata = copied_source / f"{PROJECT.replace('-', '_')}-4.5.6.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PROJECT}\nVersion: 4.5.6\n")
    assert code_version_in(copied_source) == "4.5.6"


def test_a_manifest_records_the_projects_version() -> None:
    assert f'version = "{package_versions()[PROJECT]}"' in (ROOT / "pyproject.toml").read_text()
