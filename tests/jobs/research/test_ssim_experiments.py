"""Every experiment runs from its command, on a log that takes seconds."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from jobs.cli import parse
from jobs.research import ssim_experiments
from schemas.errors import TrainingError

pytestmark = pytest.mark.slow

SMALL = "shared_bottom: {hidden: [4], embedding_dim: 2}\nstar: {hidden: [4], embedding_dim: 2}\n"
SEARCH = ["warmup_epochs=1", "epochs=1", "hidden=[4]", "selector_hidden=[4]", "embedding_dim=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trials are shared by the experiments of this module."""
    return tmp_path_factory.mktemp("experiments")


def run(folder: Path, experiment: str, *more: str) -> Path:
    """Run one experiment in this process; returns the folder of its files."""
    torch.set_num_threads(1)
    (folder / "small.yaml").write_text(SMALL, encoding="utf-8")
    words = ["--data", "planted:rows=1500,users=20,items=10", "--out", str(folder / "out"), "--device", "cpu"]
    words += ["--options", str(folder / "small.yaml"), "--resamples", "100", "--seeds", "2"]
    words += ["--trainer", "max_epochs=1", "--search", *SEARCH, "--backbones", "shared_bottom,star"]
    ssim_experiments.run(parse(ssim_experiments.ExperimentOptions, [experiment, *words, *more]))
    return folder / "out"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("experiment", list(ssim_experiments.EXPERIMENTS))
def test_every_experiment_writes_its_tables_and_plot(folder: Path, experiment: str) -> None:
    out = run(folder, experiment, "--ratios", "0.3")
    rows = table(out / f"{experiment}.csv")
    assert rows
    text = (out / f"{experiment}.md").read_text(encoding="utf-8")
    assert text.startswith(f"{experiment} on planted") and "| --- |" in text
    plots = list(out.glob(f"{experiment}*.svg"))
    assert plots
    for plot in plots:
        root = ElementTree.parse(plot).getroot()
        assert root.tag.endswith("svg") and len(root.findall(".//")) > 10
    if experiment in ("arms", "ablations", "reusability", "ratios"):
        trials = table(out / f"{experiment}_trials.csv")
        assert {c["seed"] for c in trials} == {"1", "2"}
        assert all(0 < float(c["mean_auc"]) < 1 for c in trials)


def test_ablations_have_every_variant(folder: Path) -> None:
    out = run(folder, "ablations", "--ratios", "0.3")
    variants = {row["group"].split("/")[1] for row in table(out / "ablations.csv")}
    assert {"mt_backbone", "ssim", "ssim_r", "ssim_p", "ssim_nk"} <= variants


def test_experiments_share_their_trials(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(folder, "arms", "--ratios", "0.3")
    caplog.clear()
    run(folder, "times", "--ratios", "0.3")
    run_now, cached = map(int, re.findall(r"(\d+) trials run, (\d+) cached", caplog.text)[0])
    assert (run_now, cached > 10) == (0, True)


def test_costs_name_their_ratio(folder: Path) -> None:
    out = run(folder, "times", "--ratios", "0.3")
    costs = table(out / "times.csv")
    reuse = [row for row in costs if row["what"] == "ssim"]
    assert len(reuse) == 4 and all(float(row["ratio"]) > 0 for row in reuse)
    text = (out / "times.md").read_text(encoding="utf-8")
    assert ("(0 is best on validation)" in text) == any(float(row["picked"]) == 0 for row in reuse)
    assert "| backbone | what | ratio |" in text and "| star | mt_backbone_s | 1 |" in text


def test_the_matrix_has_sources_across_and_targets_down(folder: Path) -> None:
    out = run(folder, "reusability", "--ratios", "0.3", "--targets", "dcn")
    text = (out / "reusability.md").read_text(encoding="utf-8")
    assert "target | shared_bottom | star |" in text and re.search(r"\n\| dcn \| [+-]0\.\d+", text)


def test_ratios_outside_0_to_1_are_refused(folder: Path) -> None:
    for text in ("half", "0.5,1.5"):
        with pytest.raises(TrainingError, match=r"give shares between 0 and 1"):
            run(folder, "ratios", "--ratios", text)
