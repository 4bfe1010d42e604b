"""Representations: trained once, drawn, and described by numbers that follow from them."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from jobs.cli import parse
from jobs.research import representations as command
from msr_models.experiments import representations as module
from msr_models.experiments.planted_log import planted_split
from msr_models.experiments.representations import evenly, representations, silhouette
from msr_models.experiments.variants import options_of
from msr_models.models.optmsm import OptMSM
from msr_models.models.registry import build_model
from msr_models.modules.routing import Routing
from schemas.errors import TrainingError
from tests.msr_models.experiments.test_runner import make_runner

SMALL = "optmsm: {transfer_hidden: [8, 4], hidden: [4], embedding_dim: 4}\nshared_bottom: {hidden: [4]}\n"


def run(folder: Path, *more: str) -> Path:
    torch.set_num_threads(1)
    (folder / "small.yaml").write_text(SMALL, encoding="utf-8")
    words = ["--data", "planted:rows=4000,users=30,items=10", "--out", str(folder / "out"), "--device", "cpu"]
    words += ["--options", str(folder / "small.yaml"), "--rows", "300", "--trainer", "max_epochs=1"]
    words += ["--search", "warmup_epochs=1", "epochs=1", "hidden=[4]", "selector_hidden=[4]", "embedding_dim=2"]
    command.draw(parse(command.RepresentationOptions, [*words, *more]))
    return folder / "out"


def test_numbers_and_pictures_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = run(tmp_path, "--seeds", "2")
    with (out / "representations.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    forms = ["optmsm, constraint", "optmsm, no constraint"]
    assert [(r["what"], r["seed"]) for r in rows[:4]] == [(form, seed) for form in forms for seed in ("1", "2")]
    assert {r["what"] for r in rows[4:]} == {"shared rows", "other rows"}
    assert all(-1 <= float(r["silhouette"]) <= 1 for r in rows)
    assert all(0 <= float(r["cosine"]) <= 1 for r in rows[:4]) and rows[0]["cosine"] != rows[2]["cosine"]
    for name in ("optmsm", "shared"):
        root = ElementTree.parse(out / f"representations-{name}.svg").getroot()
        assert len(root.findall(".//")) > 100, "a mark per row"
    assert "silhouette of the scenarios" in (out / "representations.md").read_text(encoding="utf-8")
    monkeypatch.setattr(module, "train", lambda *_: pytest.fail("trained again"))
    run(tmp_path, "--seeds", "2")


def test_representations_are_of_the_own_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner(planted_split(rows=1_000, users=30, items=10, seed=0, name="planted"), tmp_path)
    untrained = SimpleNamespace(train_seconds=0.0, epochs=1, validation_auc=0.5)
    monkeypatch.setattr(module, "train", lambda *_: untrained)
    trial = representations(runner, "optmsm", 1, 40)
    own_MH, scenario_M = trial.array("own"), trial.array("scenario")
    sample = evenly(len(runner.split.validation), 40)
    assert np.array_equal(scenario_M, runner.split.validation.scenario_N.numpy()[sample])
    layout = runner.split.train.layout
    network = build_model("optmsm", options_of(runner.options, "optmsm"), layout, 3, 1).eval()
    assert isinstance(network, OptMSM) and own_MH.shape == (40, 32)
    with torch.no_grad():
        batch = runner.split.validation.batch(torch.from_numpy(sample))
        routing = Routing.own(batch.scenario_B, 3)
        want_B = routing.to_rows(network.representations(network.embed(batch), routing))
    assert own_MH == pytest.approx(want_B.numpy(), abs=1e-6) and own_MH.std() > 0
    with pytest.raises(TrainingError, match=r"'shared_bottom' has no representations of scenarios; give optmsm"):
        representations(runner, "shared_bottom", 1, 40)


def test_a_silhouette_tells_separate_groups_from_mixed_ones() -> None:
    rng, group = np.random.default_rng(0), np.arange(300) % 3
    apart = np.eye(3)[group] + 0.05 * rng.normal(size=(300, 3))
    found, mixed = silhouette(apart, group), silhouette(rng.normal(size=(300, 3)), group)
    assert found is not None and found > 0.8 and mixed is not None and abs(mixed) < 0.1
    few = np.where(np.arange(300) < 5, 3, group)
    assert silhouette(apart[5:], few[5:]) == silhouette(apart, few), "a group of five rows is left out"
    assert silhouette(apart, np.zeros(300, dtype=int)) is None
    zeros = apart.copy()
    zeros[:30] = 0
    assert silhouette(zeros, group) == silhouette(apart[30:], group[30:])
