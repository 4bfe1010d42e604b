"""Storage locations of artifacts."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake.locations import artifact_path, artifact_uri, artifacts_dir
from schemas.load_dataset import load_dataset

SHOP = load_dataset("generated").model_copy(update={"name": "shop"})


def test_a_moved_lake_finds_its_artifacts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MSR_ARTIFACTS_DIR", raising=False)
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "old"))
    kept = artifact_uri(SHOP, artifacts_dir(SHOP) / "runs" / "one" / "weights.pt")
    assert kept == "runs/one/weights.pt"
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "new"))
    assert artifact_path(SHOP, kept) == tmp_path / "new" / "shop" / "_artifacts" / "runs" / "one" / "weights.pt"
    monkeypatch.setenv("MSR_ARTIFACTS_DIR", str(tmp_path / "files"))
    assert artifact_path(SHOP, kept) == tmp_path / "files" / "shop" / "runs" / "one" / "weights.pt"
