"""ADIN against its formula; its moments, its field weights and its fusion by scenario."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from msr_models.models.adin import Adin
from msr_models.models.registry import build_model
from tests.support.batches import LAYOUT, random_batch, take
from tests.support.collectives import collectives_of


def build(num_scenarios: int = 3, **options: object) -> Adin:
    small = {"embedding_dim": 4, "gate_hidden": 3, "network_hidden": [7, 6], "hidden": [5]}
    model = build_model("adin", small | options, LAYOUT, num_scenarios, 1)
    assert isinstance(model, Adin)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        model.norm.running_mean_KE.normal_(generator=generator)
    return model


def transcribed(model: Adin, e: torch.Tensor, k: int, mean: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
    """Logit of one row for scenario k, given the moments that count."""
    norm = model.norm
    f = (norm.scale_E * norm.own_scale_KE[k]) * (e - mean) / torch.sqrt(var + 1e-5)
    f = (f + norm.shift_E + norm.own_shift_KE[k]).reshape(-1, 4)
    squeezed = torch.stack([vector.mean() for vector in f])
    hidden = (squeezed @ model.squeeze.weight[k] + model.squeeze.bias[k]).relu()
    gate = torch.sigmoid(hidden @ model.excite.weight[k] + model.excite.bias[k])
    x = torch.cat([g * vector for g, vector in zip(gate, f, strict=True)])
    shared, own = x, x
    for common, mine in zip(model.shared, model.own, strict=True):
        shared = (shared @ common.weight[0] + common.bias[0]).relu()
        own = (own @ mine.weight[k] + mine.bias[k]).relu()
    own, shared = torch.sigmoid(model.own_fusion_KH[k]) * own, torch.sigmoid(model.shared_fusion_KH[k]) * shared
    h = torch.cat([own, own * shared, shared])
    forward, last = model.towers.layers
    h = (h @ forward.weight[k] + forward.bias[k]).relu()
    return h @ last.weight[k, :, 0] + last.bias[k, 0]


@pytest.mark.parametrize("training", [True, False])
def test_logit_is_that_of_the_fused_networks_with_the_moments_of_the_phase(training: bool) -> None:
    model, batch = build().train(training), random_batch(30, 3, share=0.3)
    e_BE, visits = model.embed(batch), model.visit(batch)
    want = []
    for row, k in zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True):
        mine = e_BE[(batch.scenario_B == k) | batch.shared_B]
        mean, var = mine.mean(0), mine.var(0, correction=0)
        if not training:
            mean, var = model.norm.running_mean_KE[k], model.norm.running_var_KE[k]
        want.append(transcribed(model, e_BE[row], k, mean, var))
    torch.testing.assert_close(visits.logits_V, torch.stack(want), atol=1e-3, rtol=1e-3)


def test_in_training_other_scenarios_rows_do_not_change_a_scenarios_moments() -> None:
    model, batch = build(), random_batch(30, 3)
    together = model(batch)
    for k in range(3):
        mine = (batch.scenario_B == k).nonzero().squeeze(1)
        torch.testing.assert_close(model(take(batch, mine)), together[mine], atol=1e-4, rtol=1e-4)


def test_a_scenario_can_switch_off_a_field_for_itself_alone() -> None:
    model, batch = build(sequence_pooling="none").eval(), random_batch(30, 3)
    with torch.no_grad():
        model.excite.bias[1, 0] = -1e4
        model.squeeze.weight[:, 0] = 0.0  # the other fields' weights do not ask for it either
    slots_BS = batch.slot_ids_BS.clone()
    slots_BS[:, 0] = (slots_BS[:, 0] + 1) % LAYOUT.num_rows[0]
    changed_B = model(batch) != model(dataclasses.replace(batch, slot_ids_BS=slots_BS))
    assert torch.equal(changed_B, batch.scenario_B != 1)


def test_fields_weights_and_fusion_belong_to_the_scenario_and_the_shared_network_to_all() -> None:
    model = build()
    model(random_batch(30, 3, scenarios=[1])).sum().backward()
    for name in ("squeeze.weight", "excite.bias", "own.0.weight", "own_fusion_KH", "shared_fusion_KH"):
        grad = model.get_parameter(name).grad
        assert grad is not None
        assert grad[1].abs().max() > 0 and grad[[0, 2]].abs().max() == 0, name
    assert model.shared[0].weight.shape[0] == 1


def test_without_a_visit_a_process_sums_moments_and_gradients_as_often_as_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two processes wait for each other in each sum."""
    some, none = random_batch(8, 3), take(random_batch(8, 3), torch.zeros(0, dtype=torch.int64))
    model = build()
    assert collectives_of(model, none, monkeypatch) == collectives_of(model, some, monkeypatch)
