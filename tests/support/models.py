"""Every registered model with weights away from where they start, for tests that hold for all of them."""

from __future__ import annotations

import copy

import torch

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model
from msr_models.modules.embedding import FieldEmbedding
from msr_models.training.step import reuse_loss
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


def require_gradients_by_row(model: MultiScenarioModel, batch: Batch) -> None:
    """Gradients of looked-up rows are those of whole tables, for every parameter; at least one table is there."""
    by_row = copy.deepcopy(model)
    tables = [part for part in by_row.modules() if isinstance(part, FieldEmbedding)]
    assert tables
    for table in tables:
        table.row_gradient = True
    for one in (model, by_row):
        torch.manual_seed(7)
        reuse_loss(one.visit(batch), batch.label_B, batch.shared_B, model.num_scenarios).mean().backward()
    for (key, whole), part in zip(model.named_parameters(), by_row.parameters(), strict=True):
        assert part.grad is not None and part.grad.is_sparse == any(part is table.weight for table in tables), key
        torch.testing.assert_close(part.grad.to_dense(), whole.grad, atol=1e-6, rtol=1e-5)
