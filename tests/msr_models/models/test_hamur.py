"""HAMUR against its formula with whole generated weights; what its adapters and their moments read."""

from __future__ import annotations

import pytest
import torch

from msr_models.models.hamur import Hamur
from msr_models.models.registry import build_model
from schemas.errors import TrainingError
from tests.support.batches import LAYOUT, random_batch, take
from tests.support.collectives import collectives_of


def build(num_scenarios: int = 3, **options: object) -> Hamur:
    small = {"embedding_dim": 4, "hidden": [6, 5], "bottleneck": 7, "rank": 2, "hyper_hidden": 3}
    model = build_model("hamur", small | options, LAYOUT, num_scenarios, 1)
    assert isinstance(model, Hamur)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        for adapter in model.adapters:
            adapter.norm.running_mean_KE.normal_(generator=generator)
    return model


def core(model: Hamur, e: torch.Tensor, k: int) -> torch.Tensor:
    """C [rank, rank] of one row in scenario k."""
    first = model.hyper_first
    read = torch.cat([e, model.scenario_KD[k]])
    h = (read @ torch.cat([first.first_weight_IO, first.second_weight_JO]) + first.bias_O).relu()
    return (h @ model.hyper_second.weight_IO + model.hyper_second.bias_O).reshape(model.config.rank, -1)


def transcribed(model: Hamur, rows: torch.Tensor, k: int, training: bool) -> torch.Tensor:
    """Logits of the rows [N, E] that visit scenario k, which are all that its moments read in training."""
    *layers, last = model.towers.layers
    h = rows
    for number, layer in enumerate(layers):
        h = (h @ layer.weight[k] + layer.bias[k]).relu()
        place = number - len(layers) + model.config.adapters
        if place < 0:
            continue
        adapter, out = model.adapters[place], []
        for e, x in zip(rows, h, strict=True):
            down = adapter.down_left_KHR[k] @ core(model, e, k) @ adapter.down_right_KRM[k]
            up = adapter.up_left_KMR[k] @ core(model, e, k) @ adapter.up_right_KRH[k]
            out.append(torch.sigmoid(x @ down + adapter.down_bias_KM[k]) @ up)
        z, norm = torch.stack(out), adapter.norm
        mean, var = norm.running_mean_KE[k], norm.running_var_KE[k]
        if training:
            mean, var = z.mean(0), z.var(0, correction=0)
        z = norm.scale_E * norm.own_scale_KE[k] * (z - mean) / torch.sqrt(var + 1e-5)
        h = h + z + norm.shift_E + norm.own_shift_KE[k]
    return h @ last.weight[k, :, 0] + last.bias[k, 0]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("adapters", [1, 2])
def test_logit_is_a_tower_with_generated_adapters_behind_its_last_layers(adapters: int, training: bool) -> None:
    model, batch = build(adapters=adapters).train(training), random_batch(25, 3, share=0.3)
    want = []
    e_BE = model.embed(batch).detach()
    for k in range(3):
        want.append(transcribed(model, e_BE[(batch.scenario_B == k) | batch.shared_B], k, training))
    # Visits are sorted by scenario, then by row
    torch.testing.assert_close(model.visit(batch).logits_V, torch.cat(want), atol=2e-3, rtol=1e-3)


def test_an_adapter_whose_norm_gives_nothing_leaves_the_tower_as_it_is() -> None:
    model, batch = build(), random_batch(25, 3)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.zero_()
    plain_BK = model.towers.every(model.embed(batch))
    torch.testing.assert_close(model(batch), plain_BK.gather(1, batch.scenario_B[:, None]).squeeze(1))


def test_in_training_other_scenarios_rows_do_not_change_a_scenarios_moments() -> None:
    model, batch = build(), random_batch(30, 3)
    together = model(batch)
    for k in range(3):
        mine = (batch.scenario_B == k).nonzero().squeeze(1)
        torch.testing.assert_close(model(take(batch, mine)), together[mine], atol=1e-4, rtol=1e-4)


def test_all_scenarios_rows_train_the_hypernetwork_and_only_own_ones_the_outer_matrices() -> None:
    model = build()
    model(random_batch(30, 3, scenarios=[1])).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if name.startswith("hyper"):
            assert parameter.grad.abs().max() > 0, name
        elif "left" in name or "right" in name:
            assert parameter.grad[1].abs().max() > 0 and parameter.grad[[0, 2]].abs().max() == 0, name


def test_without_a_visit_a_process_sums_moments_and_gradients_as_often_as_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two processes wait for each other in each sum."""
    some, none = random_batch(8, 3), take(random_batch(8, 3), torch.zeros(0, dtype=torch.int64))
    model = build(adapters=2)
    assert collectives_of(model, none, monkeypatch) == collectives_of(model, some, monkeypatch)


def test_more_adapters_than_layers_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"adapters 3 is more than the 2 layers of hidden .*lower adapters"):
        build(adapters=3)
