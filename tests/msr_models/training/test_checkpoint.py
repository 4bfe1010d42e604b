"""Checkpoints: whole or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lake import files
from msr_models.models.registry import build_model
from msr_models.training.checkpoint import ModelCard, load_checkpoint, save_checkpoint
from schemas.errors import TrainingError
from tests.support.batches import LAYOUT, random_batch

OPTIONS = {"embedding_dim": 4, "hidden": [8]}
CARD = ModelCard(
    model="shared_bottom",
    options=OPTIONS,
    layout=LAYOUT,
    scenarios=("home", "feed", "ads"),
    seed=1,
    dataset="d",
    vocabulary_version="v",
)


def test_a_model_comes_back_with_its_card(tmp_path: Path) -> None:
    model = build_model("shared_bottom", OPTIONS, LAYOUT, 3, 1)
    with torch.no_grad():
        model.get_parameter("towers.layers.0.bias").fill_(0.25)
    path = tmp_path / "deep" / "weights.pt"
    sha256 = save_checkpoint(path, model, CARD)
    loaded, card = load_checkpoint(path, sha256)
    batch = random_batch(20, 3)
    assert card == CARD and torch.equal(loaded(batch), model(batch)) and not loaded.training
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == sha256
    assert save_checkpoint(tmp_path / "again.pt", model, CARD) == sha256  # the same bytes
    assert sorted(p.name for p in path.parent.iterdir()) == ["weights.json", "weights.pt"]


def test_a_truncated_wrong_or_missing_file_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    with pytest.raises(TrainingError, match="cannot be read"):
        load_checkpoint(path)
    sha256 = save_checkpoint(path, build_model("shared_bottom", OPTIONS, LAYOUT, 3, 1), CARD)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(TrainingError, match=f"expected {sha256}"):
        load_checkpoint(path, sha256)
    with pytest.raises(TrainingError, match="truncated or not a checkpoint"):
        load_checkpoint(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write_bytes(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["file"]
