"""What a tuning varies: files, defaults of every model, and what a trial's values mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from msr_models.experiments.default_space import default_space
from msr_models.experiments.search_space import Parameter, SpaceSpec, encoded, read_space, space_of
from msr_models.models.registry import known_models, parse_options
from schemas.errors import TrainingError
from schemas.pipeline_spec import SearchSpec, TrainerConfig

TRAINER = TrainerConfig(max_epochs=4)


def file_with(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("model", known_models())
def test_every_models_default_space_fits_it_and_begins_with_what_is_set(model: str) -> None:
    spec = default_space(model, TRAINER, {}, shared=True)
    space = space_of(spec, model, TRAINER, {}, shared=True)
    defaults = space.defaults(SearchSpec())
    assert {"trainer.learning_rate", "trainer.weight_decay", "trainer.max_epochs", "search.kl_weight", "ratio"} <= set(
        space.parameters
    )
    assert set(defaults) >= {
        name for name in space.parameters if parse_options(model, {}) != {} and "option" not in name
    }
    drawn = space.drawn(defaults)
    assert drawn.trainer == TRAINER and drawn.ratio == 0
    assert parse_options(model, drawn.options) == parse_options(model, {})
    options = [name for name in space.parameters if name.startswith("options.")]
    assert bool(options) == (model != "logistic_regression")
    assert not [n for n in space_of(spec, model, TRAINER, {}, shared=False).parameters if n.startswith(("search", "r"))]


def test_widths_are_halved_and_doubled_around_what_is_set() -> None:
    spec = default_space("mmoe", TRAINER, {"hidden": [8, 1], "expert_hidden": [6]}, shared=False)
    found = spec.models["mmoe"]
    assert found["hidden"].choices == ([4, 1], [8, 2], [16, 4]), "the smallest width is 1"
    assert found["expert_hidden"].choices == ([3], [6], [12]) and found["embedding_dim"].choices == (8, 16, 32)
    assert set(default_space("single_task", TRAINER, {}, shared=False).models["single_task"]) >= {"hidden", "dropout"}


def test_a_trials_values_become_settings(tmp_path: Path) -> None:
    text = """
trainer: {learning_rate: {low: 1e-4, high: 1e-2, log: true}, batch_size: {choices: [64, 128]}}
options: {dropout: {low: 0, high: 0.4, step: 0.2}, num_experts: {choices: [2, 4]}}
models: {shared_bottom: {hidden: {choices: [[8], [8, 4]]}}}
search: {kl_weight: {choices: [0.3, 1]}}
ratio: {choices: [0, 0.5]}
"""
    spec = read_space(file_with(tmp_path, text))
    space = space_of(spec, "shared_bottom", TRAINER, {"embedding_dim": 4}, shared=True)
    assert "options.num_experts" not in space.parameters, "an option of other models"
    values = {"trainer.learning_rate": 0.0012345678, "trainer.batch_size": encoded(128), "options.hidden": "[8, 4]"}
    drawn = space.drawn({**values, "options.dropout": 0.1 + 0.2, "search.kl_weight": 1.0, "ratio": 0.5})
    assert (drawn.trainer.learning_rate, drawn.trainer.batch_size, drawn.trainer.max_epochs) == (0.00123457, 128, 4)
    assert drawn.options == {"embedding_dim": 4, "hidden": [8, 4], "dropout": 0.3}
    assert drawn.search == {"kl_weight": 1, "target_share_rate": None}, "which would change lambda"
    assert drawn.ratio == 0.5
    assert set(space_of(spec, "mmoe", TRAINER, {}, shared=False).parameters) == {
        "trainer.learning_rate",
        "trainer.batch_size",
        "options.dropout",
        "options.num_experts",
    }


def test_a_grid_has_as_many_points_as_combinations() -> None:
    spec = SpaceSpec.model_validate(
        {"trainer": {"learning_rate": {"choices": [1e-3, 1e-2]}, "weight_decay": {"choices": [0, 1e-6, 1e-5]}}}
    )
    space = space_of(spec, "star", TRAINER, {}, shared=False)
    assert space.grid_size == 6 and space.only(["trainer.weight_decay"]).grid_size == 3
    with pytest.raises(TrainingError, match=r"--only trainer\.decay: not tuned; .*tuned: trainer\.learning_rate"):
        space.only(["trainer.decay"])
    ranged = default_space("star", TRAINER, {}, shared=False)
    with pytest.raises(TrainingError, match=r"a grid needs choices, and trainer\.learning_rate has a range"):
        _ = space_of(ranged, "star", TRAINER, {}, shared=False).grid_size


@pytest.mark.parametrize(
    ("raw", "inside", "outside"),
    [
        ({"low": 1, "high": 4}, [1, 4], [0, 5, 1.5]),
        ({"low": 0.0, "high": 0.5, "step": 0.1}, [0.0, 0.3, 0.5], [0.25, 0.6]),
        ({"low": 1e-4, "high": 1e-2, "log": True}, [1e-4, 0.0033], [0.0]),
        ({"choices": [[8], [16]]}, [[8], (16,)], [[4], 8]),
        ({"choices": [16, 32]}, [16, 16.0], [8]),
    ],
)
def test_a_parameter_knows_its_values(raw: dict[str, Any], inside: list[Any], outside: list[Any]) -> None:
    parameter = Parameter.model_validate(raw)
    assert [parameter.contains(value) for value in inside] == [True] * len(inside)
    assert [parameter.contains(value) for value in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "trainer: {learning_rat: {choices: [1]}}",
            "trainer: 'learning_rat' is not known; did you mean 'learning_rate'",
        ),
        ("trainer: {seed: {choices: [1]}}", "trainer: 'seed' is not known"),
        ("search: {backbone: {choices: [star]}}", "search: 'backbone' is not known"),
        ("options: {hiden: {choices: [[1]]}}", r"options: 'hiden' is not known; did you mean 'hidden'"),
        ("models: {mmo: {hidden: {choices: [[1]]}}}", r"models: 'mmo' is not known; did you mean 'mmoe'"),
        ("models: {star: {num_experts: {choices: [1]}}}", r"models\.star: 'num_experts' is not known"),
        ("trainer: {learning_rate: {low: 1}}", r"trainer\.learning_rate: give \{choices"),
        ("trainer: {learning_rate: 0.1}", r"trainer\.learning_rate: give \{choices"),
        ("trainer: {learning_rate: {low: 2, high: 1}}", r"trainer\.learning_rate: low 2 is above high 1; exchange"),
        ("trainer: {learning_rate: {low: 0, high: 1, log: true}}", "log needs low > 0"),
        ("trainer: {learning_rate: {choices: [1], low: 0}}", "has choices and a range; give either"),
        ("trainer: {learning_rate: {choices: [1, 1.0]}}", "hold a value twice"),
        ("trainer: {learning_rate: {low: a, high: 1}}", r"trainer\.learning_rate\.low: .*number"),
        ("trainer: {learning_rate: {loww: 1, high: 1}}", r"trainer\.learning_rate\.loww: unknown key; allowed: "),
        ("ratios: {choices: [1]}", "ratios: unknown key; allowed: trainer, options, models, search, ratio"),
        ("ratio: {choices: [2]}", "ratio: 2 is no share of rows"),
        ("- 1", "is no mapping"),
        ("trainer: {", "cannot be read"),
        ("trainer: {}\ntrainer: {}", "cannot be read .*given twice"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_it(tmp_path: Path, text: str, why: str) -> None:
    path = file_with(tmp_path, text)
    with pytest.raises(TrainingError, match=why) as raised:
        read_space(path)
    assert str(raised.value).startswith(f"--space {path}") and "\n" not in str(raised.value).split("(")[0]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (
            {"trainer": {"learning_rate": {"choices": [-1]}}},
            r"learning_rate does not fit 'star'.*greater than 0",
        ),
        ({"options": {"dropout": {"low": 0, "high": 2}}}, r"options\.dropout does not fit 'star'.*less than 1"),
        ({"search": {"kl_weight": {"choices": [-1]}}}, r"search\.kl_weight does not fit 'star'.*greater than or equal"),
        ({"options": {"num_experts": {"choices": [2]}}}, "the space has no parameter of 'star'"),
    ],
)
def test_a_value_that_a_model_refuses_is_found_before_a_trial(raw: dict[str, Any], why: str) -> None:
    with pytest.raises(TrainingError, match=why):
        space_of(SpaceSpec.model_validate(raw), "star", TRAINER, {}, shared=True)
