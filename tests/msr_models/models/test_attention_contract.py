"""Every registered model that can pool behaviours by attention trains with it, and asks for behaviours."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from msr_models.models.registry import build_model, known_models
from msr_models.modules.target_attention import TargetAttention
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.step import TrainStep
from schemas.errors import TrainingError
from tests.support.batches import LAYOUT, random_batch

# Some attend to behaviours in their own way, and logistic regression sums weights; every other model offers `din`.
OWN_ATTENTION = {"dffm", "sar_net", "sfpnet"}
WITH_DIN = sorted(set(known_models()) - OWN_ATTENTION - {"logistic_regression"})


@pytest.mark.parametrize("pooling", ["din", "din_mean"])
@pytest.mark.parametrize("name", WITH_DIN)
def test_target_attention_trains_in_every_model_that_pools_behaviours(name: str, pooling: str) -> None:
    model = build_model(name, {"sequence_pooling": pooling}, LAYOUT, 3, 1)
    units = [part for part in model.modules() if isinstance(part, TargetAttention)]
    assert units
    before = [[p.clone() for p in unit.parameters()] for unit in units]
    step = TrainStep(model, Optimiser(model, OptimiserConfig(learning_rate=0.01)), "fp32", Processes())
    losses = [float(step(random_batch(60, 3, seed=seed, share=0.2), 60)) for seed in range(2)]
    assert torch.tensor(losses).isfinite().all()
    moved = [
        [bool((p != was).any()) for p, was in zip(unit.parameters(), old, strict=True)]
        for unit, old in zip(units, before, strict=True)
    ]
    # Where epochs only prepare, one phase's model rests.
    assert all(len(set(parts)) == 1 for parts in moved) and any(parts[0] for parts in moved)
    model, batch = model.eval(), random_batch(40, 3, share=0.3)
    visits, logits_BK = model.visit(batch), model.scenario_logits(model.embed(batch), batch)
    torch.testing.assert_close(visits.logits_V, logits_BK[visits.row_index_V, visits.scenario_V], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted({*WITH_DIN, *OWN_ATTENTION}))
def test_attention_is_refused_before_a_batch_where_there_are_no_behaviours(name: str) -> None:
    bare = dataclasses.replace(LAYOUT, hist_length=0)
    with pytest.raises(TrainingError, match="behaviour sequences, and this data set keeps none"):
        build_model(name, {"sequence_pooling": "din"} if name in WITH_DIN else {}, bare, 3, 1)
