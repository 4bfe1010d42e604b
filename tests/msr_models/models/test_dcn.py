"""DCN against its formula, layer by layer and row by row."""

from __future__ import annotations

import pytest
import torch

from msr_models.models.dcn import DCN
from msr_models.models.registry import build_model
from tests.support.batches import LAYOUT, random_batch


def build(**options: object) -> DCN:
    model = build_model("dcn", {"embedding_dim": 4, "hidden": [6, 5]} | options, LAYOUT, 3, 1)
    assert isinstance(model, DCN)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def transcribed(model: DCN, x_0: torch.Tensor, k: int) -> torch.Tensor:
    """sigmoid^-1 of eq. 5: one linear layer on [x_L ; h]."""
    x, h = x_0, x_0
    for depth in range(model.config.cross_layers):
        x = x_0 * (model.cross.weight_KEL[k, :, depth] @ x) + model.cross.bias_KLE[k, depth] + x
    *layers, last = model.towers.layers
    for layer in layers:
        h = (h @ layer.weight[k] + layer.bias[k]).relu()
    combination = torch.cat([model.cross.head_KE[k], last.weight[k, :, 0]])
    return combination @ torch.cat([x, h]) + last.bias[k, 0]


@pytest.mark.parametrize("cross_layers", [1, 3])
def test_logit_reads_the_cross_network_beside_the_mlp(cross_layers: int) -> None:
    model, batch = build(cross_layers=cross_layers), random_batch(25, 3, share=0.3)
    e_BE, visits = model.embed(batch), model.visit(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = torch.stack([transcribed(model, e_BE[row], k) for row, k in pairs])
    torch.testing.assert_close(visits.logits_V, want, atol=1e-4, rtol=1e-4)


def test_without_pooling_the_input_is_the_fields() -> None:
    assert build(sequence_pooling="none").embedded_width == 16
    assert build().embedded_width == 20
