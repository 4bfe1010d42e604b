"""Every registered model with towers is a source of shared instances, under every form of the search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from msr_models.models.registry import known_models, model_class
from msr_models.ssim.search import run_search
from schemas.pipeline_spec import SearchSpec
from tests.support.planted_log import planted_log

SOURCES = [name for name in known_models() if model_class(name).has_towers]
FORMS: dict[str, dict[str, Any]] = {
    "reference": {"objective": "reference"},
    "joint": {"objective": "joint"},
    "sampled": {"objective": "joint", "tower_sample": 1},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SOURCES)
def test_a_search_runs_from_every_source(name: str, form: str) -> None:
    window = planted_log(rows=400, users=30, items=20, shares=(3, 2, 1)).window
    small = {"warmup_epochs": 1, "epochs": 1, "batch_size": 128, "embedding_dim": 8, "selector_hidden": (8,)}
    spec = SearchSpec(backbone=name, hidden=(16, 8), **FORMS[form], **small)
    result = run_search(window, spec)
    assert np.isfinite(result.probs_N).all() and ((result.probs_N > 0) & (result.probs_N < 1)).all()
    assert all(np.isfinite(curve["loss"]) for curve in result.curves)
    assert np.ptp(result.probs_N) > 0
    assert np.isfinite(result.metrics["logloss"])
    assert result.selector.embedding.width == 8
