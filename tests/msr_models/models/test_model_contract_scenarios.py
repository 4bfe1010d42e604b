"""What every registered model does while a scenario has no rows; a new model is found by itself."""

from __future__ import annotations

import pytest
import torch

from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import known_models, model_class
from msr_models.modules.embedding import FieldEmbedding
from msr_models.training.optimiser import Optimiser, OptimiserConfig
from msr_models.training.processes import Processes
from msr_models.training.step import TrainStep
from schemas.pipeline_spec import OptimiserKind
from tests.support.batches import random_batch
from tests.support.models import SCENARIOS, build

# Scenario parameters of these prefixes also work for other scenarios' rows: what their definition feeds to all.
FED_TO_ALL = {
    "hinet": "specific.",
    "m3oe": "of_scenarios.",
    "ple": "experts.levels.0.own.",
    "sar_net": "origins.origin_",
}


@pytest.mark.parametrize("name", known_models())
def test_an_absent_scenario_keeps_its_own_parameters(name: str) -> None:
    model = build(name)
    torch.nn.functional.softplus(model(random_batch(100, SCENARIOS, scenarios=[0, 1, 3, 4]))).sum().backward()
    fed_to_all = FED_TO_ALL.get(name, "none")
    own = 0
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None
        if key.startswith("copies."):  # a whole model per scenario
            own += 1
            assert (parameter.grad.abs().max() == 0) == key.startswith("copies.2."), key
        elif parameter.shape[0] == SCENARIOS and not key.startswith(fed_to_all):
            own += 1
            assert parameter.grad[2].abs().max() == 0, key
    assert own


@pytest.mark.parametrize("name", known_models())
@pytest.mark.parametrize("kind", ["adam", "adagrad"])
def test_steps_without_a_scenario_leave_what_is_its_own_alone(name: str, kind: OptimiserKind) -> None:
    """Neither momentum nor decay moves them, also where a run starts from such weights the day after."""
    model = build(name)
    step = TrainStep(model, Optimiser(model, OptimiserConfig(kind=kind, weight_decay=0.3)), "fp32", Processes())
    for seed in range(2):  # moments that would go on
        step(random_batch(200, SCENARIOS, seed=seed, share=0.1), 200)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    own = _own_of_scenario_2(model)
    for day in range(2):
        for seed in range(3):
            step(random_batch(200, SCENARIOS, seed=10 * day + seed, scenarios=[0, 1, 3, 4]), 200)
        step = TrainStep(model, Optimiser(model, OptimiserConfig(kind=kind, weight_decay=0.3)), "fp32", Processes())
    after = dict(model.named_parameters())
    assert own
    for key, part in own.items():
        assert torch.equal(after[key][part], before[key][part]), key
    assert sum(not torch.equal(after[key], before[key]) for key in after) > len(after) / 2 - len(own)
    step(random_batch(200, SCENARIOS, scenarios=[2]), 200)
    assert any(not torch.equal(after[key][part], before[key][part]) for key, part in own.items())


def _own_of_scenario_2(model: MultiScenarioModel) -> dict[str, int | slice | tuple[slice, int]]:
    """Place of the scenario in every parameter that it has to itself."""
    fed_to_all = next((prefix for name, prefix in FED_TO_ALL.items() if isinstance(model, model_class(name))), "none")
    tables = {id(m.weight): m for m in model.modules() if isinstance(m, FieldEmbedding)}
    own: dict[str, int | slice | tuple[slice, int]] = {}
    for key, parameter in model.named_parameters():
        if key.startswith("copies."):
            if key.startswith("copies.2."):
                own[key] = slice(None)
        elif id(parameter) in tables:
            if parameter.shape[1] == SCENARIOS:
                own[key] = (slice(None), 2)
        elif parameter.shape[0] == SCENARIOS and not key.startswith(fed_to_all):
            own[key] = 2
    return own
