"""Which models the training command trains: names, options and data sets that do not fit, and all at once."""

from __future__ import annotations

import json
import runpy
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs import train_target_model
from lake import reader as lake_reader
from msr_models.models.registry import known_models
from schemas.load_dataset import load_dataset
from tests.support.tiny_lake import tiny_dataset, write_tiny_lake

DAYS = [date(2026, 1, d) for d in (2, 3, 4, 5)]
TRAINING: dict[str, Any] = {"window_days": 3, "batch_size": 64, "max_epochs": 2, "ratios": [0.0]}
NEED_BEHAVIOURS = {"dffm", "sar_net", "sfpnet"}


def write_yaml(folder: Path, max_length: int = 5, **training: Any) -> Path:
    sequence = {"item_field": "item", "max_length": max_length, "lookback_days": 3}
    spec = tiny_dataset(training=TRAINING | training, sequence=sequence)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(json.loads(spec.model_dump_json(exclude_defaults=True))), encoding="utf-8")
    return path


def command(monkeypatch: pytest.MonkeyPatch, path: Path, *arguments: str) -> int:
    """The exit code of `python -m jobs.train_target_model` on the CPU."""
    given = ["train", "--dataset", str(path), "--ds", str(DAYS[-1]), "--device", "cpu", *arguments]
    monkeypatch.setattr("sys.argv", given)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(train_target_model.__file__, run_name="__main__")
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("models", "arguments", "words"),
    [
        (None, ["--model", "shared_botom"], ["did you mean 'shared_bottom'?", "known models: adasparse, ", ", star"]),
        ([{"name": "sta"}], [], ["tiny.yaml: training.models: model 'sta' is not known; did you mean 'star'?"]),
        (
            [{"name": "star"}, {"name": "mmoe", "options": {"num_expert": 3}}],
            [],
            [
                "tiny.yaml: training.models: ",
                "'mmoe': no option 'num_expert'; did you mean 'num_experts'?",
                "hidden",
            ],
        ),
        (
            [{"name": "star", "options": {"sequence_pooling": "max"}}],
            ["--model", "all"],
            ["tiny.yaml: ", "option sequence_pooling: 'max' is not allowed", "'mean', 'din', 'din_mean' or 'none'"],
        ),
        ([{"name": "ppnet", "options": {"gate_fields": ["usr"]}}], [], ["usr", "user, item, tags, price"]),
    ],
)
def test_a_name_or_option_that_does_not_fit_is_one_line_that_says_what_would(
    models: list[Any] | None,
    arguments: list[str],
    words: list[str],
    lake: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training: dict[str, Any] = {} if models is None else {"models": models}
    path = write_yaml(lake.parent, **training)
    assert command(monkeypatch, path, *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(word in error for word in words), error
    assert not lake.exists()


@pytest.mark.parametrize("name", sorted(NEED_BEHAVIOURS))
def test_a_model_that_needs_behaviours_is_refused_before_anything_is_read(
    name: str, lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_yaml(lake.parent, max_length=0)
    assert command(monkeypatch, path, "--model", name) == 2
    error = capsys.readouterr().err
    assert f"model '{name}'" in error and "needs behaviour sequences, and this data set keeps none" in error
    assert command(monkeypatch, path, "--model", name, "--skip-unfit") == 0
    assert f"{name} is skipped: model '{name}'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--ratio", "1.5"], "error: --ratio 1.5: must be 1 or less\n"),
        (["--ratio", "nan"], "error: --ratio nan: must be a finite number\n"),
        (["--threads", "0"], "error: --threads 0: must be 1 or more\n"),
        (["--threads", "two"], "error: --threads two: must be a whole number\n"),
    ],
)
def test_an_option_out_of_its_bounds_is_one_line(
    arguments: list[str], line: str, lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, write_yaml(lake.parent), *arguments) == 2
    assert capsys.readouterr().err == line


def test_models_of_one_day_have_trainer_settings_of_their_own(
    lake: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the manifest, and so in the run's name; a repetition takes them from there."""
    small = {"embedding_dim": 4, "hidden": [7]}
    own = {"learning_rate": 0.02, "max_epochs": 1}
    models: list[dict[str, Any]] = [
        {"name": "star", "options": small},
        {"name": "mmoe", "options": small | {"expert_hidden": [4]}, "trainer": own},
    ]

    def manifests(path: Path) -> dict[str, Any]:
        assert command(monkeypatch, path) == 0
        rows = lake_reader.read_table(tiny_dataset(), "training_runs", days=[DAYS[-1]]).to_pylist()
        return {r["model"]: json.loads(r["manifest"]) for r in rows}

    path = write_yaml(lake.parent, models=models)
    write_tiny_lake(load_dataset(str(path)), DAYS, rows_per_day=100)
    found = manifests(path)
    settings = ("learning_rate", "max_epochs", "batch_size")
    assert [found["star"]["trainer"][name] for name in settings] == [1e-3, 2, 64]
    assert [found["mmoe"]["trainer"][name] for name in settings] == [0.02, 1, 64]
    models[1]["trainer"] = {"learning_rate": 0.02}
    again = manifests(write_yaml(lake.parent, models=models))
    assert again["star"]["run_id"] == found["star"]["run_id"]
    assert again["mmoe"]["run_id"] != found["mmoe"]["run_id"]
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(found["mmoe"]), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["train", "--dataset", str(path), "--manifest", str(manifest)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(train_target_model.__file__, run_name="__main__")
    assert not ended.value.code


@pytest.mark.slow
@pytest.mark.parametrize("max_length", [0, 5])
def test_all_trains_every_model_that_the_data_set_can_feed(
    max_length: int, lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"embedding_dim": 4, "hidden": [7]}
    path = write_yaml(lake.parent, max_length=max_length, models=[{"name": "star", "options": options}])
    write_tiny_lake(load_dataset(str(path)), DAYS, rows_per_day=100)
    assert command(monkeypatch, path, "--model", "all") == 0
    rows = lake_reader.read_table(tiny_dataset(), "training_runs", days=[DAYS[-1]]).to_pylist()
    skipped = NEED_BEHAVIOURS if max_length == 0 else set()
    assert {r["model"] for r in rows if r["is_selected"]} == set(known_models()) - skipped
    (star,) = [r for r in rows if r["model"] == "star"]
    assert json.loads(star["manifest"])["options"] == options, "a model of the YAML keeps its options there"
    lines = capsys.readouterr().out
    assert {name for name in known_models() if f"{name} is skipped" in lines} == skipped
