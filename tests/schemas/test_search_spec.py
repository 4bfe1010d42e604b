"""Settings of the search: what would do nothing, or does not fit together, is refused where it is written."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.pipeline_spec import SearchSpec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tower_reduction": "sum"}, "tower_reduction 'sum' has no effect on objective 'reference'; leave it out"),
        ({"temperature": (1.0, 1000.0)}, r"temperature \(1.0, 1000.0\) has no effect on objective 'reference'"),
        ({"warmup_epochs": 0}, "needs towers that are warmed up: set warmup_epochs >= 1"),
        ({"threshold_init": 0.99}, r"threshold_init 0.99 does not lie inside threshold_bounds \[0.05, 0.95\]"),
        ({"threshold_bounds": (0.5, 0.5)}, "threshold_bounds"),
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
        {"objective": "joint", "tower_reduction": "sum", "tower_sample": 2, "temperature": (1.0, 1000.0)},
        {"backbone": "mmoe", "backbone_options": {"num_experts": 8, "dropout": 0.1}},
    ],
    ids=str,
)
def test_what_has_an_effect_is_taken(change: dict[str, Any]) -> None:
    spec = SearchSpec(**change)
    assert SearchSpec.model_validate_json(spec.model_dump_json()) == spec
