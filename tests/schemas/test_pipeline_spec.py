"""Settings of search and training: those without effect, out of bounds or in conflict are refused."""

from __future__ import annotations

import json
import math
from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from msr_models.models.registry import parse_options
from schemas.pipeline_spec import ModelChoice, SearchSpec, TrainerConfig, TrainingSpec
from schemas.source_spec import GeneratorSpec
from schemas.spec import Spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tower_reduction": "sum"}, "tower_reduction 'sum' has no effect on objective 'reference'; leave it out"),
        ({"temperature": (1.0, 1000.0)}, r"temperature \(1.0, 1000.0\) has no effect on objective 'reference'"),
        ({"warmup_epochs": 0}, "needs towers that are warmed up: set warmup_epochs >= 1"),
        ({"threshold_init": 0.99}, r"threshold_init 0.99 does not lie inside threshold_bounds \[0.05, 0.95\]"),
        ({"threshold_bounds": (0.6, 0.6)}, r"threshold_init 0.5 does not lie inside threshold_bounds \[0.6, 0.6\]"),
        ({"collapse_share": 0.5}, "less than 0.5"),
        ({"collapse_share": -0.1}, "greater than or equal to 0"),
        ({"threshold_bounds": (0.9, 0.1)}, "threshold_bounds"),
        ({"backbone_options": {"hidden": [8]}}, "backbone_options may not set hidden: use search's own setting"),
        ({"objective": "joint", "tower_sample": 0}, "greater than or equal to 1"),
        ({"objective": "joint", "temperature": (0.0, 1.0)}, "greater than 0"),
        ({"objective": "both"}, "'reference' or 'joint'"),
        ({"tower_samples": 1}, "Extra inputs"),
    ],
    ids=str,
)
def test_a_setting_without_effect_or_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SearchSpec(**change)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"objective": "joint", "warmup_epochs": 0},
        {"objective": "reference", "tower_sample": 2},
        {"threshold_bounds": (0.5, 0.5)},
        {"threshold_init": 0.3, "threshold_bounds": (0.3, 0.3), "collapse_share": 0.0},
        {"objective": "joint", "tower_reduction": "sum", "tower_sample": 2, "temperature": (1.0, 1000.0)},
        {"backbone": "mmoe", "backbone_options": {"num_experts": 8, "dropout": 0.1}},
    ],
    ids=str,
)
def test_settings_that_have_an_effect_are_accepted(change: dict[str, Any]) -> None:
    spec = SearchSpec(**change)
    assert SearchSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_guard_at_its_default_does_not_change_a_sets_id() -> None:
    assert "collapse_share" not in SearchSpec().model_dump() and "collapse_share" not in SearchSpec().model_dump_json()
    assert SearchSpec(collapse_share=0.01).model_dump()["collapse_share"] == 0.01


@pytest.mark.parametrize("value", [math.inf, math.nan], ids=str)
@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (TrainerConfig, "learning_rate"),
        (TrainingSpec, "learning_rate"),
        (TrainingSpec, "gradient_clip"),
        (TrainingSpec, "memory_gb"),
        (SearchSpec, "kl_weight"),
        (SearchSpec, "learning_rate"),
        (GeneratorSpec, "base_logit"),
    ],
)
def test_no_setting_is_infinite_or_nan(spec: type[Spec], name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=rf"{name}\s.*finite number"):
        spec.model_validate({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", 0), ("weight_decay", -1e-6), ("batch_size", 1), ("max_epochs", 0), ("gradient_clip", 0)],
)
def test_training_settings_have_bounds(name: str, value: float) -> None:
    for spec in (TrainerConfig, TrainingSpec):
        with pytest.raises(ValidationError, match=rf"{name}\s.*greater than"):
            spec.model_validate({name: value})


OPTIONS: dict[str, Any] = {
    "sparsity_weight": [0.01, 0.1],
    "alpha": [1, 2.5],
    "hidden": [64, 32],
    "names": ["a", "b"],
    "none": None,
    "few": [],
    "priors": False,
    "levels": 1,
    "rate": 1.0,
    "form": "fusion",
}


@pytest.mark.parametrize(("made", "key"), [(SearchSpec, "backbone_options"), (ModelChoice, "options")])
def test_options_keep_their_values_and_types(made: type[Any], key: str) -> None:
    needed = {"name": "adasparse"} if made is ModelChoice else {}
    given = {name: value for name, value in OPTIONS.items() if made is ModelChoice or name != "hidden"}
    spec = made.model_validate({**needed, key: given})
    for again in (spec, made.model_validate_json(spec.model_dump_json()), made.model_validate(spec.model_dump())):
        kept = getattr(again, key)
        assert repr(kept) == repr(given), "no int turned into a float or a bool"
    assert json.loads(spec.model_dump_json())[key] == given


def test_a_models_own_defaults_can_be_given() -> None:
    given = ModelChoice(name="adasparse", options={"sparsity_weight": [0.01, 0.1], "alpha": [0.5, 2.0]}).options
    config = parse_options("adasparse", given)
    assert (config.sparsity_weight, config.alpha) == ((0.01, 0.1), (0.5, 2.0))
    assert (
        parse_options("single_task", ModelChoice(name="single_task", options={"hidden": None}).options).hidden is None
    )


@pytest.mark.parametrize(
    "value", [{"a": 1}, [[1, 2]], [1, "a"], [True, 2], [None], date(2026, 1, 1), float("nan"), [float("inf")]], ids=str
)
def test_a_wrong_option_is_one_message(value: Any) -> None:
    with pytest.raises(
        ValidationError, match="is not an option: give a number, true or false, a string, null"
    ) as raised:
        ModelChoice(name="star", options={"hidden": value})
    assert [error["loc"] for error in raised.value.errors()] == [("options", "hidden")]
