"""HiNet against its formulas; what the attention to other scenarios reads and trains."""

from __future__ import annotations

import torch
from torch import Tensor

from msr_models.models.hinet import HiNet
from msr_models.models.registry import build_model
from tests.support.batches import LAYOUT, random_batch

SHARED, OWN, SCENARIOS = 3, 2, 4


def build(num_scenarios: int = SCENARIOS) -> HiNet:
    small = {
        "embedding_dim": 4,
        "num_shared_experts": SHARED,
        "num_specific_experts": OWN,
        "expert_hidden": [8, 7],
        "hidden": [6],
    }
    model = build_model("hinet", small, LAYOUT, num_scenarios, 1)
    assert isinstance(model, HiNet)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def weighted(gate: Tensor, outputs: list[Tensor]) -> Tensor:
    shares = gate.exp() / gate.exp().sum()
    total = torch.zeros_like(outputs[0])
    for share, output in zip(shares, outputs, strict=True):
        total = total + share * output
    return total


def shared_module(model: HiNet, e: Tensor) -> Tensor:
    outputs = []
    for n in range(SHARED):
        x = e
        for layer in model.shared.layers:
            x = (x @ layer.weight[n] + layer.bias[n]).relu()
        outputs.append(x)
    return weighted(e @ model.shared.gate_KEX[0], outputs)


def specific_module(model: HiNet, e: Tensor, m: int) -> Tensor:
    experts, outputs = model.specific.experts, []
    for n in range(OWN):
        x = e
        for weight, bias in zip(experts.weights, experts.biases, strict=True):
            x = (x @ weight[m, :, n] + bias[m, n]).relu()
        outputs.append(x)
    return weighted(e @ model.specific.gate_KEX[m], outputs)


def transcribed(model: HiNet, e: Tensor, k: int) -> float:
    others = [m for m in range(SCENARIOS) if m != k]
    scores = model.attention.scenario_KD[k] @ model.attention.scores_DK
    attended = weighted(scores[others], [specific_module(model, e, m) for m in others])
    x = torch.cat([shared_module(model, e), specific_module(model, e, k), attended])
    *layers, last = model.towers.layers
    for layer in layers:
        x = (x @ layer.weight[k] + layer.bias[k]).relu()
    return (x @ last.weight[k, :, 0] + last.bias[k, 0]).item()


def test_logits_are_those_of_the_formula() -> None:
    model, batch = build(), random_batch(20, SCENARIOS, share=0.3)
    visits, e_BE = model.visit(batch), model.embed(batch)
    pairs = zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True)
    want = [transcribed(model, e_BE[row], k) for row, k in pairs]
    assert len({round(value, 4) for value in want}) > 20
    torch.testing.assert_close(visits.logits_V, torch.tensor(want), atol=1e-4, rtol=1e-4)


def test_a_scenario_attends_to_the_others_alone() -> None:
    share_KK = build().attention.shares()
    assert share_KK.diagonal().abs().max() == 0
    torch.testing.assert_close(share_KK.sum(1), torch.ones(SCENARIOS))
    off_KK = share_KK[~torch.eye(SCENARIOS, dtype=torch.bool)]
    assert off_KK.min() > 0 and len(off_KK.unique()) > 2 * SCENARIOS


def test_a_single_scenario_has_no_others() -> None:
    """Its attention is zero, not its own module and not NaN."""
    model, batch = build(num_scenarios=1), random_batch(20, 1)
    assert torch.equal(model.attention.shares(), torch.zeros(1, 1))
    before = model(batch)
    with torch.no_grad():
        model.towers.layers[0].weight[:, 14:] += 1.0
    assert torch.equal(model(batch), before)
    before.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_scenarios_rows_train_the_other_scenarios_experts_too() -> None:
    """Which only the attention does: a tower, an embedding and a shared expert train as ever."""
    model = build()
    model(random_batch(60, SCENARIOS, scenarios=[1])).sum().backward()
    for parameter in model.specific.parameters():
        assert parameter.grad is not None and parameter.grad.flatten(1).abs().amax(1).min() > 0
    for own in (model.attention.scenario_KD, *(layer.weight for layer in model.towers.layers)):
        assert own.grad is not None
        assert own.grad[1].abs().max() > 0 == own.grad[[0, 2, 3]].abs().max()


def test_a_shared_rows_visit_attends_as_the_visited_scenario() -> None:
    model, batch = build().eval(), random_batch(10, SCENARIOS)
    before = model.scenario_logits(model.embed(batch), batch)
    with torch.no_grad():
        model.attention.scenario_KD[1] += 1.0
    after = model.scenario_logits(model.embed(batch), batch)
    changed = (after - before).abs() > 1e-6
    assert changed[:, 1].any() and not changed[:, [0, 2, 3]].any()
