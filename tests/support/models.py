"""Every registered model with weights away from where they start, for tests that hold for all of them."""

from __future__ import annotations

import torch

from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model
from msr_models.modules.embedding import FieldEmbedding
from tests.support.batches import LAYOUT

SCENARIOS = 5


def build(name: str, seed: int = 1, num_scenarios: int = SCENARIOS, layout: FieldLayout = LAYOUT) -> MultiScenarioModel:
    """In the phase in which it ends, with default options."""
    model = build_model(name, {}, layout, num_scenarios, seed)
    if model.pretraining_epochs:
        model.end_pretraining()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():  # away from zeros, so that no parameter hides behind a zero factor
        tables = {id(module.weight) for module in model.modules() if isinstance(module, FieldEmbedding)}
        for parameter in model.parameters():
            scale = 0.3 if id(parameter) in tables else 0.1  # vectors start near 0
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model
