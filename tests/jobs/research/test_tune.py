"""jobs.research.tune: what it writes is taken by daily training and by the comparison; it survives being killed."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
import yaml
from optuna.storages.journal._storage import JournalOperation

from jobs import train_target_model
from jobs.cli import parse
from jobs.research import compare_models, tune, tuning
from jobs.research.tune_options import GRIDS, TuneOptions, space_file
from lake import reader as lake_reader
from msr_models.experiments.search_space import space_of
from msr_models.models.registry import known_models
from schemas.errors import MsrError, TrainingError
from schemas.load_dataset import load_dataset
from schemas.pipeline_spec import SearchSpec, TrainerConfig, TrainingSpec
from tests.support.source_tree import ROOT
from tests.support.steps import command_line
from tests.support.tiny_lake import SMALL_SEARCH, tiny_dataset, write_tiny_lake

SMALL = "shared_bottom: {hidden: [4], embedding_dim: 2}\nmmoe: {hidden: [4], expert_hidden: [4], embedding_dim: 2}\n"
DATA = "planted:rows=1200,users=20,items=10"
DAYS = [date(2026, 1, d) for d in (2, 3, 4, 5)]


@pytest.fixture(autouse=True)
def threads() -> None:
    """The command sets them: they stay at one."""
    torch.set_num_threads(1)


def words(folder: Path, *more: str) -> list[str]:
    (folder / "small.yaml").write_text(SMALL, encoding="utf-8")
    given = ["--data", DATA, "--out", str(folder / "out"), "--options", str(folder / "small.yaml"), "--device", "cpu"]
    return [*given, "--trainer", "max_epochs=3", *more]


def run(folder: Path, *more: str) -> dict[str, Any]:
    """The command in this process; results.json."""
    tune.tune(parse(TuneOptions, words(folder, *more)))
    found: dict[str, Any] = json.loads((folder / "out" / "results.json").read_text(encoding="utf-8"))
    return found


def trials_of(folder: Path, model: str) -> list[dict[str, str]]:
    """trials.csv without what depends on the clock."""
    with (folder / "out" / model / "trials.csv").open(encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_every_model_has_the_same_budget_and_the_comparison_takes_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    results = run(tmp_path, "--models", "shared_bottom,mmoe", "--trials", "4")
    shown = capsys.readouterr().out
    out = tmp_path / "out"
    assert results["budget"] == 4 and set(results["models"]) == {"shared_bottom", "mmoe"}
    for model, found in results["models"].items():
        rows = trials_of(tmp_path, model)
        assert sum(found["trials"].values()) == len(rows) == 4
        best = max((r for r in rows if r["state"] == "complete"), key=lambda r: float(r["validation"]))
        assert found["best"]["validation"] == float(best["validation"]) and best["trial"] == str(
            found["best"]["number"]
        )
        for name in ("history", "sensitivity"):
            ElementTree.parse(out / model / f"{name}.svg")
        test = found["test"]["1"]["all"]["mean_scenario_auc"]
        assert shown.count(f"| {test:.4f} |") == 1, "the test figure is printed once"
        training = yaml.safe_load((out / model / "best.yaml").read_text(encoding="utf-8"))["training"]
        spec = TrainingSpec.model_validate(training)
        assert spec.models[0].name == model and "learning_rate" not in training
        assert spec.trainer_of(spec.models[0]).learning_rate == found["trainer"]["learning_rate"]
    compared = ["--data", DATA, "--out", str(out), "--options", str(out / "options.yaml"), "--device", "cpu"]
    compared += ["--seeds", "1", "--resamples", "100", "--models", "mmoe", "--base", "shared_bottom"]
    compare_models.compare(parse(compare_models.CompareOptions, compared))
    with (out / "comparison.csv").open(encoding="utf-8") as file:
        means = {r["group"]: float(r["mean"]) for r in csv.DictReader(file) if r["metric"] == "mean"}
    assert means == {
        model: pytest.approx(found["test"]["1"]["all"]["mean_scenario_auc"])
        for model, found in results["models"].items()
    }
    assert caplog.text.count("cached") == 2, "trained with exactly the settings of the winners"


def test_what_is_written_trains_that_model_daily(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block replaces the data set's own, which keeps its other settings."""
    path = lake.parent / "tiny.yaml"
    spec = tiny_dataset(training={"window_days": 3, "batch_size": 64, "max_epochs": 2, "ratios": [0.0]})
    whole = json.loads(spec.model_dump_json(exclude_defaults=True))
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    write_tiny_lake(load_dataset(str(path)), DAYS, rows_per_day=100)
    given = ["--models", "mmoe", "--trials", "3", "--data", f"lake:{path}"]
    tune.tune(parse(TuneOptions, [*words(lake.parent), *given]))
    blocks = yaml.safe_load((lake.parent / "out" / "mmoe" / "best.yaml").read_text(encoding="utf-8"))
    assert blocks["training"]["window_days"] == 3 and set(blocks) == {"training"}
    path.write_text(yaml.safe_dump({**whole, **blocks}), encoding="utf-8")
    monkeypatch.setattr("sys.argv", [])
    arguments = ["--dataset", str(path), "--ds", str(DAYS[-1]), "--device", "cpu"]
    assert command_line(train_target_model, arguments, monkeypatch) == 0
    (row,) = lake_reader.read_table(spec, "training_runs", days=[DAYS[-1]]).to_pylist()
    manifest = json.loads(row["manifest"])
    assert row["model"] == "mmoe" and manifest["options"] == blocks["training"]["models"][0]["options"]
    for name in ("learning_rate", "weight_decay", "max_epochs"):
        assert manifest["trainer"][name] == blocks["training"]["models"][0]["trainer"][name]
    assert manifest["trainer"]["calibration"] == "platt", "as the data set has it, not as a study does"


def test_shared_rows_are_tuned_and_their_search_is_written_too(tmp_path: Path) -> None:
    search = [f"{key}={json.dumps(v)}" for key, v in SMALL_SEARCH.items()]
    given = ["--models", "mmoe,base_dnn", "--shared", "--trials", "2", "--search", *search]
    with pytest.raises(TrainingError, match="model 'base_dnn' has no towers"):
        run(tmp_path, *given)
    given[1] = "mmoe"
    given += ["--only", "search.kl_weight", "ratio"]
    found = run(tmp_path, *given)["models"]["mmoe"]
    blocks = yaml.safe_load((tmp_path / "out" / "mmoe" / "best.yaml").read_text(encoding="utf-8"))
    spec = SearchSpec.model_validate(blocks["search"])
    assert spec.backbone == "mmoe" and spec.target_share_rate is None and spec.kl_weight == found["search"]["kl_weight"]
    assert blocks["training"]["ratios"] == [found["ratio"]]
    first = trials_of(tmp_path, "mmoe")[0]
    assert (float(first["search.kl_weight"]), float(first["ratio"])) == (0.5, 0.0), "as set, nothing shared"


def test_a_grid_is_a_table_and_a_curve_by_scenario(tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("trainer: {learning_rate: {choices: [1e-1, 1e-3, 1e-2]}, weight_decay: {choices: [0, 1e-6]}}")
    results = run(tmp_path, "--models", "shared_bottom", "--grid", str(grid))
    assert results["budget"] == 6 and results["models"]["shared_bottom"]["trials"]["complete"] == 6
    text = (tmp_path / "out" / "tuning.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| trainer.learning_rate | ")]
    rows = [row for row in rows if len(row) > 3]
    assert [row[1] for row in rows] == ["0.001", "0.01", "0.1"] and {row[2] for row in rows} == {"2"}
    csv_rows = [r for r in trials_of(tmp_path, "shared_bottom") if float(r["trainer.learning_rate"]) == 0.01]
    assert float(rows[1][4]) == pytest.approx(sum(float(r["validation"]) for r in csv_rows) / 2, abs=1e-4)
    assert "| parameter | value | trials | best validation | mean AUC | s0 | s1 | s2 |" in text
    picture = ElementTree.parse(tmp_path / "out" / "shared_bottom" / "sensitivity.svg")
    curves = [e for e in picture.iter() if e.tag.endswith("polyline") and "curve" in e.get("class", "")]
    assert len(curves) == 8, "two parameters, each with the mean and three scenarios"


@pytest.mark.slow
def test_two_processes_share_one_study(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = ["--models", "shared_bottom", "--trials", "12", "--processes", "2", "--data", "planted:rows=30000"]
    results = run(tmp_path, *given, "--pruner", "none")
    assert sum(results["models"]["shared_bottom"]["trials"].values()) == 12
    assert "0 trials run by this process" in caplog.text
    journal = [json.loads(line) for line in (tmp_path / "out" / "journal.log").read_text(encoding="utf-8").splitlines()]
    created = [entry["worker_id"] for entry in journal if entry["op_code"] == JournalOperation.CREATE_TRIAL]
    assert len(created) == 12 and len(set(created)) == 2, "both took part"


@pytest.mark.slow
def test_a_command_killed_in_the_middle_resumes_to_the_same_trials(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    given = ["--models", "shared_bottom", "--trials", "12", "--pruner", "none"]
    run(whole, *given)
    command = [sys.executable, "-m", "jobs.research.tune", *words(killed, *given)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    _wait_for(killed / "out" / "journal.log", lines=25)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "out" / "results.json").exists()
    run(killed, *given)
    assert trials_of(killed, "shared_bottom") == trials_of(whole, "shared_bottom")
    best = [(folder / "out" / "shared_bottom" / "best.yaml").read_bytes() for folder in (whole, killed)]
    assert best[0] == best[1]


@pytest.mark.slow
def test_processes_end_with_a_killed_command(tmp_path: Path) -> None:
    given = words(tmp_path, "--models", "shared_bottom", "--trials", "2000", "--processes", "2")
    command = [sys.executable, "-m", "jobs.research.tune", *given]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = tmp_path / "out" / "journal.log"
    _wait_for(journal, lines=10)
    process.kill()
    process.wait()
    time.sleep(2)
    size = journal.stat().st_size
    time.sleep(2)
    assert journal.stat().st_size == size, "a process went on"


def _wait_for(path: Path, lines: int) -> None:
    until = time.monotonic() + 120
    while not path.is_file() or path.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < until, "no trial began"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_process_that_dies_leaves_its_trials_to_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tuning, "work", _die)
    results = run(tmp_path, "--models", "shared_bottom", "--trials", "2", "--processes", "2")
    assert "2 of 2 processes ended early; their trials are run again" in caplog.text
    assert sum(results["models"]["shared_bottom"]["trials"].values()) == 2


def _die(_: TuneOptions) -> None:
    os._exit(9)


@pytest.mark.parametrize("name", sorted(path.stem for path in GRIDS.glob("*.yaml")))
def test_the_papers_grids_fit_every_model(name: str) -> None:
    spec = space_file(TuneOptions(data=DATA, out=Path(), models="all", grid=name))
    assert spec is not None
    for model in known_models():
        assert space_of(spec, model, TrainerConfig(), {}, shared=True).grid_size > 1


def test_the_papers_grids_are_as_large_as_the_papers_say() -> None:
    def size(grid: str, model: str, *, shared: bool = False) -> int:
        spec = space_file(TuneOptions(data=DATA, out=Path(), models="all", grid=grid))
        assert spec is not None
        return space_of(spec, model, TrainerConfig(), {}, shared=shared).grid_size

    assert size("ssim", "star") == 5 * 6 and size("ssim", "star", shared=True) == 5 * 6 * 8 * 11
    assert size("optmsm", "optmsm") == 4 * 4 * 4
    assert [size("sfpnet", model) for model in ("sfpnet", "mmoe", "ple", "star")] == [15, 12, 12, 3]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--models", "shared_botom"], r"model 'shared_botom' is not known; did you mean 'shared_bottom'"),
        (["--grid", "sim"], r"--grid 'sim' is not known; did you mean 'ssim'\? known: optmsm, sfpnet, ssim"),
        (["--grid", "ssim", "--space", "x.yaml"], "give either --grid or --space"),
        (["--space", "nowhere.yaml"], r"--space nowhere\.yaml cannot be read"),
        (["--trials", "0"], "--trials 0: must be 1 or more"),
        (["--pruner", "best"], "--pruner best: must be 'median', 'hyperband' or 'none'"),
    ],
)
def test_mistakes_are_found_before_anything_is_read(tmp_path: Path, more: list[str], why: str) -> None:
    given = words(tmp_path, *([] if "--models" in more else ["--models", "shared_bottom"]), *more)
    with pytest.raises(MsrError, match=why):
        tune.tune(parse(TuneOptions, given))
    assert not (tmp_path / "out").exists()


def test_a_bad_space_file_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("trainer: {learning_rat: {low: 1, high: 2}}", encoding="utf-8")
    given = words(tmp_path, "--models", "shared_bottom", "--space", str(space))
    assert command_line(tune, given, monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --space {space}: ") and error.count("\n") == 1
    assert "did you mean 'learning_rate'?" in error


def test_without_optuna_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(TrainingError, match=r"Optuna is not installed; install the project's extra"):
        run(tmp_path, "--models", "shared_bottom")


def test_the_command_line_and_the_file_may_not_set_one_thing_twice(tmp_path: Path) -> None:
    file = tmp_path / "tuned.yaml"
    given = ["--data", DATA, "--out", str(tmp_path), "--options", str(file), "--trainer", "learning_rate=0.1"]
    for text, why in (
        (
            "shared_bottom: {trainer: {learning_rate: 0.01}}",
            r"--trainer learning_rate=0\.1: .*in one place",
        ),
        ("shared_bottom: {trainer: {seed: 2}}", "trainer may not set seed: give --seeds"),
        ("shared_bottom: {trainer: {rate: 2}}", "shared_bottom: trainer: no option 'rate'"),
        ("shared_bottom: {trainer: 2}", "trainer: 2 is not a mapping"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(TrainingError, match=why):
            compare_models.compare(parse(compare_models.CompareOptions, given))
