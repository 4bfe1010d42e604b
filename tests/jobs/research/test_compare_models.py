"""compare_models: tables, resuming, and mistakes in its options."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
import torch

from jobs.cli import parse
from jobs.research import compare_models, ssim_experiments
from jobs.research.options import named_models, read_model_options
from jobs.research.worth import beats
from msr_models.experiments import runner as runner_module
from msr_models.experiments.comparison import Line
from msr_models.experiments.settings import with_settings
from msr_models.experiments.sources import trainer_defaults
from msr_models.experiments.variants import registered_name
from msr_models.models.registry import known_models, parse_options
from schemas.errors import MsrError, TrainingError
from schemas.pipeline_spec import SearchSpec
from tests.support.movielens_files import write_movielens
from tests.support.steps import command_line

SMALL = "shared_bottom: {hidden: [4], embedding_dim: 2}\nmmoe: {hidden: [4], expert_hidden: [4], embedding_dim: 2}\n"
FILES = Path(compare_models.__file__).parent
DATA = "planted:rows=1200,users=20,items=10"


@pytest.fixture(autouse=True)
def threads() -> None:
    """The command sets them: they stay at one."""
    torch.set_num_threads(1)


def run(folder: Path, *more: str) -> None:
    """The command in this process."""
    (folder / "small.yaml").write_text(SMALL, encoding="utf-8")
    words = ["--data", DATA, "--out", str(folder / "out"), "--options", str(folder / "small.yaml"), "--device", "cpu"]
    words += ["--resamples", "100", "--trainer", "max_epochs=1", *more]
    compare_models.compare(parse(compare_models.CompareOptions, words))


def test_tables_plot_and_resuming(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(tmp_path, "--models", "mmoe", "--seeds", "2")
    assert "trial 4/4" in caplog.text and "shared_bottom | " in capsys.readouterr().out
    out = tmp_path / "out"
    with (out / "comparison.csv").open(encoding="utf-8") as file:
        rows = {(r["group"], r["metric"]): r for r in csv.DictReader(file)}
    assert list(rows) == [
        (m, q) for m in ("shared_bottom", "mmoe") for q in ("s0", "s1", "s2", "mean", "all", "s_gauc", "logloss")
    ]
    mine, base = rows["mmoe", "mean"], rows["shared_bottom", "mean"]
    assert mine["seeds"] == "2" and mine["base"] == "shared_bottom" and base["difference"] == ""
    assert float(mine["difference"]) == pytest.approx(float(mine["mean"]) - float(base["mean"]))
    text = (out / "comparison.md").read_text(encoding="utf-8")
    assert f"| mmoe | {float(mine['mean']):.4f} |" in text and "samples/s" in text and "| AUC | s0 | s1 | s2 |" in text
    ElementTree.parse(out / "comparison.svg")
    monkeypatch.setattr(runner_module, "fit", lambda *_: pytest.fail("trained again"))
    before = (out / "comparison.csv").read_bytes()
    run(tmp_path, "--models", "mmoe", "--seeds", "2")
    assert (out / "comparison.csv").read_bytes() == before
    monkeypatch.undo()
    run(tmp_path, "--models", "mmoe", "--seeds", "3")
    assert "trial 5/6" in caplog.text


def test_a_model_that_the_rows_cannot_feed_is_named_or_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_movielens(tmp_path)
    words = ["--data", f"movielens_fixed:history=0,path={tmp_path}", "--seeds", "1", "--base", "logistic_regression"]
    words += ["--options", str(tmp_path / "plain.yaml")]
    (tmp_path / "plain.yaml").write_text("logistic_regression: {sequence_pooling: none}", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"sfpnet.*needs behaviour sequences"):
        run(tmp_path, *words, "--models", "sfpnet")
    monkeypatch.setattr(compare_models, "named_models", _few)
    run(tmp_path, *words, "--models", "all")
    assert "sfpnet is skipped" in caplog.text
    assert "Skipped: sfpnet: " in (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")


def _few(text: str) -> list[str]:
    return ["logistic_regression", "sfpnet"] if text == "all" else [text]


def test_trees_are_a_floor_and_gains_over_several_bases_are_written(tmp_path: Path) -> None:
    against = ["shared_bottom", "boosted_trees"]
    run(tmp_path, "--models", "mmoe", "--seeds", "2", "--floors", "boosted_trees", "--against", ",".join(against))
    out = tmp_path / "out"
    with (out / "worth.csv").open(encoding="utf-8") as file:
        rows = {(r["group"], r["base"]): r for r in csv.DictReader(file)}
    groups = {"shared_bottom", "mmoe", "boosted_trees"}
    assert set(rows) == {(group, base) for base in against for group in groups if group != base}
    there, back = rows["boosted_trees", "shared_bottom"], rows["shared_bottom", "boosted_trees"]
    assert float(there["difference"]) == pytest.approx(-float(back["difference"]))
    assert float(there["users_low"]) == pytest.approx(-float(back["users_high"]))
    with (out / "comparison.csv").open(encoding="utf-8") as file:
        usual = {r["group"]: r for r in csv.DictReader(file) if r["metric"] == "mean"}
    assert usual["boosted_trees"] == there, "the same numbers as in the table of all metrics"
    text = (out / "worth.md").read_text(encoding="utf-8")
    assert text.count("Better than ") == 2 and "| boosted_trees |" in text
    with pytest.raises(TrainingError, match=r"--against 'star' is not compared; give one of shared_bottom, mmoe"):
        run(tmp_path, "--models", "mmoe", "--seeds", "2", "--against", "star")


def test_better_means_that_both_intervals_lie_above_0() -> None:
    line = Line(group="a", metric="mean", seeds=5, mean=0.7, seeds_low=0.001, users_low=0.002)
    assert beats(line)
    for low in (-0.1, None):
        assert not beats(replace(line, seeds_low=low)) and not beats(replace(line, users_low=low))


def test_variants_are_compared_by_their_whole_names(tmp_path: Path) -> None:
    text = SMALL + "mmoe/two: {num_experts: 2}\nmmoe/five: {num_experts: 5}\n"
    (tmp_path / "forms.yaml").write_text(text, encoding="utf-8")
    words = ["--options", str(tmp_path / "forms.yaml"), "--seeds", "1"]
    run(tmp_path, *words, "--base", "mmoe/two", "--models", "mmoe/five,mmoe")
    out = tmp_path / "out"
    with (out / "comparison.csv").open(encoding="utf-8") as file:
        rows = {r["group"]: r for r in csv.DictReader(file) if r["metric"] == "mean"}
    assert {group: row["base"] for group, row in rows.items()} == {
        "mmoe/two": "",
        "mmoe/five": "mmoe/two",
        "mmoe": "mmoe/two",
    }
    assert len({row["mean"] for row in rows.values()}) == 3
    written = (out / "comparison.md").read_text(encoding="utf-8")
    assert "differences relative to mmoe/two" in written and written.count("| mmoe/five |") == 2
    assert "mmoe/five" in (out / "comparison.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--models", "shared_botom"], r"model 'shared_botom' is not known; did you mean 'shared_bottom'\?"),
        (["--models", ","], "names no model; known models: .*mmoe"),
        (["--base", "nobody"], r"model 'nobody' is not known.*known models"),
        (["--models", "mmoe/two"], r"variant 'mmoe/two' has no options; .*add it to .*small\.yaml, as `mmoe/two: "),
        (["--base", "mmoe/two"], r"variant 'mmoe/two' has no options; .*add it to .*small\.yaml"),
        (["--models", "mmo/two"], r"model 'mmo' is not known; did you mean 'mmoe'\?"),
        (["--models", "mmoe/"], r"variant 'mmoe/' is not a valid name"),
        (["--seeds", "0"], "--seeds 0: must be 1 or more"),
        (["--trainer", "batch=3"], r"--trainer: no option 'batch'; did you mean 'batch_size'"),
        (["--trainer", "batch_size=many"], "--trainer: option batch_size: 'many' .*integer"),
        (["--trainer", "batch_size=0"], r"--trainer: option batch_size: 0 .*greater than or equal to 2"),
        (["--trainer", "max_epochs=0"], r"--trainer: option max_epochs: 0 .*greater than or equal to 1"),
        (["--trainer", "learning_rate=-1"], r"--trainer: option learning_rate: -1 .*greater than 0"),
        (["--trainer", "learning_rate=inf"], r"--trainer: option learning_rate: 'inf' .*finite"),
        (["--trainer", "weight_decay=-1"], r"--trainer: option weight_decay: -1 .*greater than or equal to 0"),
        (["--trainer", "patience=-1"], r"--trainer: option patience: -1 .*greater than or equal to 0"),
        (["--trainer", "gradient_clip=0"], r"--trainer: option gradient_clip: 0 .*greater than 0"),
        (["--trainer", "warmup_steps=-1"], r"--trainer: option warmup_steps: -1 .*greater than or equal to 0"),
        (["--trainer", "seed=3"], "--trainer: seed=3 is not allowed: .*remove it"),
        (["--trainer", "batch_size"], "--trainer: 'batch_size' is not KEY=VALUE; give one of batch_size"),
        (["--search", "hidden=0.5"], "--search: option hidden: 0.5 .*tuple"),
        (["--search", "hidden=[1,2"], r"--search: option hidden: '\[1,2' .*tuple"),
        (["--base", "star,mmoe"], "--base 'star,mmoe' names 2 models; give one"),
        (["--base", "all"], r"--base 'all' names \d+ models; give one"),
        (["--data", "planted:seed=-1"], "--data 'planted:seed=-1': option seed: -1 .*greater than or equal to 0"),
        (["--data", "nowhere"], "--data 'nowhere' is not known"),
    ],
)
def test_mistakes_are_found_before_anything_is_read(tmp_path: Path, words: list[str], why: str) -> None:
    with pytest.raises(MsrError, match=why) as raised:
        run(tmp_path, *words)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_bad_option_names_the_file_and_what_is_allowed(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    for text, why in (
        (
            "shared_bottom: {hiden: [4]}",
            r"bad\.yaml: model 'shared_bottom': no option 'hiden'; did you mean 'hidden'",
        ),
        ("mmoe: {hiden: [4]}", r"bad\.yaml: model 'mmoe': no option 'hiden'"),
        (
            "shared_botom: {hidden: [4]}",
            r"bad\.yaml: model 'shared_botom' is not known; did you mean 'shared_bottom'\? known models: .*star",
        ),
        ("- star", "is not a mapping of models to options"),
        ("1: {}", "is not a mapping of models to options"),
        ("star: {", "cannot be read"),
    ):
        bad.write_text(text, encoding="utf-8")
        with pytest.raises(TrainingError, match=why):
            run(tmp_path, "--options", str(bad), "--models", "shared_bottom")


def test_a_variant_without_a_file_says_what_to_give() -> None:
    with pytest.raises(TrainingError, match=r"variant 'star/wide' has no options; .*give --options FILE with it"):
        read_model_options(None, ["star", "star/wide"])


def test_the_shipped_options_are_of_models_that_there_are() -> None:
    ablations = read_model_options(FILES / "ablations.yaml", [])
    own = {
        name: len([n for n in ablations if n.startswith(f"{name}/")]) for name in ("optmsm", "sfpnet", "single_task")
    }
    assert own == {"optmsm": 4, "sfpnet": 10, "single_task": 1} and len(ablations) == 15
    parsed = [parse_options(registered_name(name), options) for name, options in ablations.items()]
    assert len({repr(config) for config in parsed}) == 15, "all differ"
    public = read_model_options(FILES / "movielens_fixed.yaml", [])
    assert set(known_models()) - set(public) == {"sfpnet"}, "which needs the behaviours that this split leaves out"
    assert all(options["sequence_pooling"] == "none" for options in public.values())
    din = read_model_options(FILES / "din.yaml", [])
    configs = {name: parse_options(name, din.get(name, {})) for name in known_models()}
    pooled = {name: getattr(config, "sequence_pooling", None) for name, config in configs.items()}
    own_way = {"dffm": "scenario_attention", "sar_net": "scenario_attention", "sfpnet": None}
    others = {name: pooling for name, pooling in pooled.items() if pooling != "din"}
    assert others == own_way | {"logistic_regression": "mean"}
    assert all(options == {"sequence_pooling": "din"} for options in din.values())
    assert public["autoint"] == {"hidden": [128, 64], "sequence_pooling": "none"}


def test_settings_are_typed() -> None:
    changes = ["learning_rate=3e-3", "embedding_update=dense", "gradient_clip=2"]
    trainer = with_settings(trainer_defaults("planted"), changes, "--trainer")
    assert (trainer.learning_rate, trainer.embedding_update, trainer.gradient_clip) == (0.003, "dense", 2.0)
    assert with_settings(trainer, ["gradient_clip=null"], "--trainer").gradient_clip is None
    search = with_settings(SearchSpec(), ["hidden=[8, 4]", "target_share_rate=null", "warmup_epochs=2"], "--search")
    assert (search.hidden, search.target_share_rate, search.warmup_epochs) == ((8, 4), None, 2)
    assert named_models("star,mmoe,star") == ["star", "mmoe"]
    assert {"star", "dcn", "shared_bottom"} <= set(named_models("all"))


@pytest.mark.parametrize("command", [compare_models, ssim_experiments])
def test_a_mistake_on_the_command_line_is_one_line_and_exit_code_2(
    command: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["arms"] if command is ssim_experiments else []
    assert command_line(command, [*words, "--data", "lake:nobody", "--out", str(tmp_path)], monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "nobody" in error
