"""AutoInt against its formula, field by field and head by head."""

from __future__ import annotations

import pytest
import torch

from msr_models.models.autoint import AutoInt, InteractingLayer
from msr_models.models.registry import build_model
from tests.support.batches import LAYOUT, random_batch


def build(**options: object) -> AutoInt:
    model = build_model("autoint", {"embedding_dim": 4, "head_dim": 3, "hidden": [6, 5]} | options, LAYOUT, 3, 1)
    assert isinstance(model, AutoInt)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator))
    return model


def attended(layer: InteractingLayer, x_FD: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Eq. 5-8 of one row."""
    query, key, value, residual = layer.weight_DO.chunk(4, dim=1)
    rows = []
    for x_m in x_FD:
        heads = []
        for h in range(layer.heads):
            own = slice(h * head_dim, (h + 1) * head_dim)
            scores = torch.stack([(x_m @ query[:, own]) @ (x_n @ key[:, own]) for x_n in x_FD])
            shares = scores.exp() / scores.exp().sum()
            heads.append(sum(share * (x_n @ value[:, own]) for share, x_n in zip(shares, x_FD, strict=True)))
        rows.append((torch.cat(heads) + x_m @ residual).relu())
    return torch.stack(rows)


def transcribed(model: AutoInt, x_FD: torch.Tensor, k: int) -> torch.Tensor:
    for layer in model.interactions:
        assert isinstance(layer, InteractingLayer)
        x_FD = attended(layer, x_FD, model.config.head_dim)
    h = x_FD.flatten()
    for depth, layer in enumerate(model.towers.layers):
        h = h @ layer.weight[k] + layer.bias[k]
        h = h.relu() if depth < len(model.config.hidden) else h
    return h[0]


@pytest.mark.parametrize(("layers", "heads", "hidden"), [(1, 1, []), (2, 2, [6, 5]), (3, 2, [])])
def test_logit_is_the_scenario_s_reading_of_the_attended_fields(layers: int, heads: int, hidden: list[int]) -> None:
    model, batch = build(layers=layers, heads=heads, hidden=hidden), random_batch(15, 3, share=0.3)
    x_BFD, visits = model.inputs(batch), model.visit(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = torch.stack([transcribed(model, x_BFD[row], k) for row, k in pairs])
    torch.testing.assert_close(visits.logits_V, want, atol=1e-4, rtol=1e-4)


def test_attention_is_among_the_fields_of_a_row_alone() -> None:
    model, batch = build(), random_batch(6, 3)
    x_BFD = model.inputs(batch)
    mixed = model.interactions(x_BFD)
    torch.testing.assert_close(model.interactions(x_BFD[2:3]), mixed[2:3])
    other = x_BFD.clone()
    other[2, 0] += 1.0
    moved = (model.interactions(other) - mixed).abs().amax((1, 2))
    assert moved[2] > 0.01 and moved[[0, 1, 3, 4, 5]].max() == 0
