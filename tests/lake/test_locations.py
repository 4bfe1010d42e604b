"""Storage locations of artifacts."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake.locations import artifact_path, artifact_uri, artifacts_dir, lake_root
from schemas.errors import TableError
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


def test_a_root_that_is_a_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("")
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / "lake"))
    with pytest.raises(TableError, match=r"MSR_LAKE_ROOT: '.*/lake' is not a folder; give a folder or a URI"):
        lake_root()


@pytest.mark.parametrize("name", ["a%20b", "a[b]", "a`b", "a\\b"])
def test_a_root_that_an_engine_would_take_for_another_path_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / name))
    with pytest.raises(TableError, match=r"MSR_LAKE_ROOT: Delta cannot use a path with '.*': '.*'; rename it"):
        lake_root()
