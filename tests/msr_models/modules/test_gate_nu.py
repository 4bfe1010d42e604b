"""Gates: where they start, and what a row's gate depends on."""

from __future__ import annotations

import math

import torch

from msr_models.modules.gate_nu import EmbeddingGate, PersonalisedTowers, gate
from msr_models.modules.routing import Routing


def test_a_gate_lies_between_0_and_2_and_is_1_at_0() -> None:
    values = gate(torch.tensor([-50.0, 0.0, 50.0]))
    torch.testing.assert_close(values, torch.tensor([0.0, 1.0, 2.0]))


def test_the_embedding_gate_keeps_zeros_and_a_rows_gate_is_its_own() -> None:
    generator = torch.Generator().manual_seed(3)
    module = EmbeddingGate(3, 10, 4, 6, generator)
    x = torch.randn(20, 10, generator=generator)
    x[:, 7] = 0.0
    every = module(x, Routing.everywhere(20, 3, x.device)).view(3, 20, 10)
    assert every[:, :, 7].abs().max() == 0
    alone = module(x[5:6], Routing.everywhere(1, 3, x.device)).view(3, 10)
    torch.testing.assert_close(alone, every[:, 5])


def test_towers_have_gates_of_their_own() -> None:
    generator = torch.Generator().manual_seed(3)
    module = PersonalisedTowers(3, 8, 10, (6, 5), 4, 0.0, generator)
    x, prior = torch.randn(20, 10, generator=generator), torch.randn(20, 8, generator=generator)
    routing = Routing.everywhere(20, 3, x.device)

    def logits() -> torch.Tensor:
        gates = (module.of_prior(prior) + module.of_input(x))[routing.row_index_V]
        return module(x[routing.row_index_V], gates, routing).view(3, 20)

    before = logits()
    with torch.no_grad():
        module.gates[1].bias[2].add_(1.0)
    assert [(after != was).any().item() for after, was in zip(logits(), before, strict=True)] == [False, False, True]


def test_initial_weights_are_xavier() -> None:
    generator = torch.Generator().manual_seed(1)
    embedding, towers = (
        EmbeddingGate(3, 40, 8, 24, generator),
        PersonalisedTowers(3, 16, 40, (30, 20), 24, 0.0, generator),
    )
    for parameter, fans in (
        (embedding.weight_EG, 40 + 8 + 24),
        (embedding.scenario_weight_DG, 40 + 8 + 24),
        (embedding.gate_weight_GE, 24 + 40),
        (towers.prior_weight_PG, 16 + 40 + 24),
        (towers.weight_EG, 16 + 40 + 24),
        (towers.gates[0].weight, 24 + 30),
    ):
        bound = math.sqrt(6 / fans)
        assert 0.95 * bound < parameter.abs().max() <= bound
