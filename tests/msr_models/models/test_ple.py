"""PLE against its formula: row by row, stream by stream, expert by expert."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from msr_models.models.ple import PLE
from msr_models.models.registry import build_model
from msr_models.modules.routing import Routing
from tests.support.batches import LAYOUT, random_batch

K = 3


def build(**options: object) -> PLE:
    small = {
        "embedding_dim": 4,
        "hidden": [6, 5],
        "levels": 2,
        "num_specific_experts": 2,
        "num_shared_experts": 3,
        "expert_hidden": [8, 7],
    }
    model = build_model("ple", small | options, LAYOUT, K, 1)
    assert isinstance(model, PLE)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return model


def weighted(scores: torch.Tensor, experts: list[torch.Tensor]) -> torch.Tensor:
    powers = [torch.exp(score) for score in scores]
    assert len(powers) == len(experts)
    return torch.stack([power / sum(powers) * expert for power, expert in zip(powers, experts, strict=True)]).sum(0)


def transcribed(model: PLE, x: torch.Tensor, k: int) -> torch.Tensor:
    """Logit of one row in scenario k, in the words of the paper: all streams of all levels, one after another."""
    streams, shared = [x] * K, x
    for level in model.experts.levels:
        specific: list[list[torch.Tensor]] = []
        for j in range(K):
            specific.append([])
            for e in range(model.config.num_specific_experts):
                h = streams[j]
                for weight, bias in zip(level.own.weights, level.own.biases, strict=True):
                    h = (h @ weight[j, :, e] + bias[j, e]).relu()
                specific[j].append(h)
        common = []
        for e in range(model.config.num_shared_experts):
            h = shared
            for layer in level.shared:
                h = (h @ layer.weight[e] + layer.bias[e]).relu()
            common.append(h)
        streams = [weighted(streams[j] @ level.gate_KCX[j], specific[j] + common) for j in range(K)]
        if level.shared_gate_CX is not None:
            shared = weighted(shared @ level.shared_gate_CX, [e for own in specific for e in own] + common)
    h = streams[k]
    *layers, last = model.towers.layers
    for layer in layers:
        h = (h @ layer.weight[k] + layer.bias[k]).relu()
    return h @ last.weight[k, :, 0] + last.bias[k, 0]


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.parametrize("expert_hidden", [(7,), (8, 7)])
def test_logits_and_gradients_are_those_of_the_formula(levels: int, expert_hidden: tuple[int, ...]) -> None:
    model, batch = build(levels=levels, expert_hidden=list(expert_hidden)), random_batch(12, K, share=0.3)
    e_BE, visits = model.embed(batch), model.visit(batch)
    pairs = list(zip(visits.row_index_V.tolist(), visits.scenario_V.tolist(), strict=True))
    assert len(pairs) > len(batch)
    want = torch.stack([transcribed(model, e_BE[row], k) for row, k in pairs])
    torch.testing.assert_close(visits.logits_V, want, atol=1e-4, rtol=1e-4)
    parameters = list(model.parameters())
    upstream = torch.randn(len(want), generator=torch.Generator().manual_seed(3))
    for mine, theirs in zip(
        torch.autograd.grad(visits.logits_V, parameters, upstream),
        torch.autograd.grad(want, parameters, upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)


def test_the_shared_gate_covers_all_experts_and_the_last_level_has_none() -> None:
    levels = build(levels=3).experts.levels
    assert [None if level.shared_gate_CX is None else level.shared_gate_CX.shape[1] for level in levels] == [9, 9, None]
    assert [level.gate_KCX.shape[2] for level in levels] == [5, 5, 5]


def test_with_one_level_other_scenarios_experts_do_not_matter_and_with_two_they_do() -> None:
    for levels, matter in ((1, False), (2, True)):
        model, batch = build(levels=levels), random_batch(20, K, scenarios=[0, 1])
        before = model(batch)
        with torch.no_grad():
            model.experts.levels[0].own.weights[0][2].add_(1.0)
        assert torch.equal(model(batch), before) is not matter


def test_gates_see_their_input_as_it_is() -> None:
    """No normalisation in front of the softmax: an input five times as long has five times the log odds."""
    level = build(levels=1, num_specific_experts=1).experts.levels[0]
    x = torch.randn(9, 20, generator=torch.Generator().manual_seed(4))
    routing = Routing.own(random_batch(9, K).scenario_B, K)
    x_V = x[routing.row_index_V]
    one_hot = torch.eye(4)  # experts that say who they are: the mixture is the gate
    own, shared = one_hot[:1].expand(9, 1, 4), one_hot[1:].expand(9, 3, 4)
    weak, strong = (level._at_visits(scale * x_V, own, shared, routing) for scale in (1.0, 5.0))
    odds_weak, odds_strong = ((gate / gate[:, :1]).log() for gate in (weak, strong))
    torch.testing.assert_close(odds_strong, 5 * odds_weak, atol=1e-3, rtol=1e-3)


def test_the_work_of_a_row_does_not_grow_with_its_visits() -> None:
    """The first of two levels runs once per row, the last one's specific experts once per visit."""
    model, batch = build(), random_batch(25, K, share=2.0)
    seen: list[tuple[str, int]] = []
    first, last = model.experts.levels
    for name, owner, method in (("every", first.own, "every"), ("visits", last.own, "forward")):
        inner = getattr(owner, method)

        def spy(
            x: torch.Tensor, *rest: object, name: str = name, inner: Callable[..., torch.Tensor] = inner
        ) -> torch.Tensor:
            seen.append((name, len(x)))
            return inner(x, *rest)

        setattr(owner, method, spy)
    assert len(model.visit(batch).logits_V) == 75
    assert seen == [("every", 25), ("visits", 75)]


def test_dropout_is_for_training_alone() -> None:
    model, batch = build(dropout=0.5), random_batch(25, K)
    assert not torch.equal(model(batch), model(batch))
    assert torch.equal(model.eval()(batch), model(batch))
