"""The gate of AESM²: which experts it keeps, and that it keeps no other."""

from __future__ import annotations

import torch

from msr_models.modules.expert_selection import selective_gate


def logits_of(shares: list[list[float]]) -> torch.Tensor:
    """[1, K, X] whose softmax over scenarios is shares[k][j]."""
    return torch.tensor(shares).log()[None]


def test_the_nearest_to_one_and_to_all_are_kept() -> None:
    # Expert 0 is scenario 0's, expert 1 serves all, expert 2 and 3 are scenario 1's.
    logits = logits_of([[0.8, 0.5, 0.1, 0.2], [0.2, 0.5, 0.9, 0.8]])
    gate, divergence = selective_gate(logits, torch.tensor([0]), 1)
    assert (gate[0] > 0).tolist() == [True, True, False, False]
    torch.testing.assert_close(gate[0, :2], torch.tensor([0.8, 0.5]) / 1.3)
    torch.testing.assert_close(divergence, -torch.tensor([0.8]).log())  # the shared one diverges by 0
    gate, _ = selective_gate(logits, torch.tensor([1]), 1)
    assert (gate[0] > 0).tolist() == [False, True, True, False]


def test_what_is_not_selected_is_0_however_low_the_others_are() -> None:
    logits = logits_of([[0.8, 0.5, 0.1, 0.2], [0.2, 0.5, 0.9, 0.8]])
    lowered = logits + torch.tensor([-9000.0, -9000.0, 0.0, 0.0])  # shares of scenarios stay as they are
    gate, _ = selective_gate(lowered, torch.tensor([0]), 1)
    assert gate[0, 2:].abs().max() == 0 and float(gate.sum()) == 1


def test_equals_are_taken_in_order() -> None:
    gate, divergence = selective_gate(torch.linspace(-3, 3, 240).view(6, 1, 40), torch.zeros(6, dtype=torch.int64), 3)
    assert torch.equal(gate > 0, (torch.arange(40) < 3).expand(6, -1))
    assert divergence.abs().max() < 1e-6


def test_divergences_are_those_of_the_distributions() -> None:
    logits = torch.randn(10, 3, 6, generator=torch.Generator().manual_seed(0))
    scenario = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    _, divergence = selective_gate(logits, scenario, 6)
    share = logits.softmax(1)
    onehot = torch.eye(3)[scenario][:, :, None]
    to_one = torch.special.xlogy(onehot, onehot / share).sum(1)
    to_all = (torch.log(1 / 3 / share) / 3).sum(1)
    torch.testing.assert_close(divergence, to_one.mean(1) + to_all.mean(1))
