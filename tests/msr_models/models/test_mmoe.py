"""MMoE against its formula, row by row and expert by expert."""

from __future__ import annotations

import pytest
import torch

from msr_models.models.mmoe import MMoE
from msr_models.models.registry import build_model
from msr_models.modules.stacked import StackedLinear
from tests.support.batches import LAYOUT, random_batch


def build(**options: object) -> MMoE:
    small = {"embedding_dim": 4, "hidden": [6, 5], "num_experts": 3, "expert_hidden": [8, 7]}
    model = build_model("mmoe", small | options, LAYOUT, 3, 1)
    assert isinstance(model, MMoE)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def transcribed(model: MMoE, x: torch.Tensor, k: int) -> torch.Tensor:
    scores = [torch.exp(model.mixtures.gate_KEX[k, :, e] @ x) for e in range(model.config.num_experts)]
    h = torch.zeros(())
    for e, score in enumerate(scores):
        expert = x
        for layer in model.mixtures.layers:
            expert = (expert @ layer.weight[e] + layer.bias[e]).relu()
        h = h + score / sum(scores) * expert
    *layers, last = model.towers.layers
    for layer in layers:
        h = (h @ layer.weight[k] + layer.bias[k]).relu()
    return h @ last.weight[k, :, 0] + last.bias[k, 0]


def test_logit_is_the_tower_on_the_mixture_of_the_scenarios_gate() -> None:
    model, batch = build(), random_batch(25, 3, share=0.3)
    e_BE, visits = model.embed(batch), model.visit(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = torch.stack([transcribed(model, e_BE[row], k) for row, k in pairs])
    torch.testing.assert_close(visits.logits_V, want, atol=1e-4, rtol=1e-4)


def test_experts_run_once_per_row_however_many_visits(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = build(), random_batch(25, 3, share=2.0)
    seen: list[int] = []
    every = StackedLinear.every

    def counted(layer: StackedLinear, x: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape[-2])
        return every(layer, x)

    monkeypatch.setattr(StackedLinear, "every", counted)
    assert len(model.visit(batch).logits_V) == 75
    assert seen == [25] * len(model.mixtures.layers)


def test_without_pooling_the_input_is_the_fields() -> None:
    assert build(sequence_pooling="none").embedded_width == 16
    assert build().embedded_width == 20
