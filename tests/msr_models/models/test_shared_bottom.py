"""SharedBottom against its formula, with and without SFPNet's auxiliary tower."""

from __future__ import annotations

import pytest
import torch

from msr_models.models.registry import build_model
from msr_models.models.shared_bottom import SharedBottom
from tests.support.batches import LAYOUT, random_batch


def build(**options: object) -> SharedBottom:
    small = {"embedding_dim": 4, "hidden": [6, 5], "auxiliary_hidden": 7}
    model = build_model("shared_bottom", small | options, LAYOUT, 3, 1)
    assert isinstance(model, SharedBottom)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def transcribed(model: SharedBottom, e: torch.Tensor, k: int) -> torch.Tensor:
    h = e
    *layers, last = model.towers.layers
    for layer in layers:
        h = (h @ layer.weight[k] + layer.bias[k]).relu()
    logit = h @ last.weight[k, :, 0] + last.bias[k, 0]
    aux = model.auxiliary
    if aux is None:
        return logit
    assert aux.scenario_KD is not None and aux.scenario_weight_DH is not None
    joined = torch.cat([e, aux.scenario_KD[k]]) @ torch.cat([aux.weight_EH, aux.scenario_weight_DH])
    return logit + (joined + aux.bias_H).relu() @ aux.head_H + aux.head_bias[0]


@pytest.mark.parametrize("auxiliary", [False, True])
def test_logit_is_the_tower_and_the_auxiliary_one_that_knows_the_scenario(auxiliary: bool) -> None:
    model, batch = build(auxiliary=auxiliary), random_batch(25, 3, share=0.3)
    e_BE, visits = model.embed(batch), model.visit(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = torch.stack([transcribed(model, e_BE[row], k) for row, k in pairs])
    torch.testing.assert_close(visits.logits_V, want, atol=1e-4, rtol=1e-4)
    logits_BK = model.scenario_logits(e_BE, batch)
    torch.testing.assert_close(logits_BK[visits.row_index_V, visits.scenario_V], want, atol=1e-4, rtol=1e-4)


def test_the_auxiliary_tower_learns() -> None:
    model = build(auxiliary=True)
    torch.nn.functional.softplus(model(random_batch(60, 3))).sum().backward()
    assert model.auxiliary is not None
    for key, parameter in model.auxiliary.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
    assert "auxiliary.scenario_KD" not in dict(build().named_parameters())
