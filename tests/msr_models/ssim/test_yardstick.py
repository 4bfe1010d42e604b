"""How far towers disagree over a row, against the sum pair by pair."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from msr_models.ssim.objective import pair_weights
from msr_models.ssim.yardstick import CommonScale, relative_excess, relative_pair_excess, signal


def _logits(num_scenarios: int, rows: int = 50, seed: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    offsets_K = torch.randn(num_scenarios, generator=generator)
    return 2 * torch.randn(rows, num_scenarios, generator=generator) + offsets_K


def _slow(logits_BK: torch.Tensor, rows_K: list[int]) -> list[float]:
    """Loops over rows and pairs, from the docstrings."""

    def p(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    num_scenarios, rows = len(rows_K), [[float(v) for v in row] for row in logits_BK]
    pairs = [(j, k) for j, k in product(range(num_scenarios), repeat=2) if j != k]
    weight = {(j, k): rows_K[j] * rows_K[k] / max(rows_K[j] + rows_K[k], 1) for j, k in pairs}
    total = sum(weight.values())
    centre = [sum(row[k] for row in rows) / len(rows) for k in range(num_scenarios)]
    base = sum(weight[j, k] * centre[j] for j, k in pairs) / total
    excess, said = [], []
    for row in rows:
        z = [row[k] - centre[k] + base for k in range(num_scenarios)]
        excess.append(sum(w * (p(z[j]) - p(z[k])) * (z[j] - z[k]) / 2 for (j, k), w in weight.items()) / total)
        of = [(p(v) - p(base)) * (v - base) / 2 for v in z]
        said.append(sum(w * (of[j] + of[k]) / 2 for (j, k), w in weight.items()) / total)
    mean = sum(said) / len(said)
    return [e / (s + mean) for e, s in zip(excess, said, strict=True)]


@pytest.mark.parametrize("rows_K", [[100, 200], [600, 300, 100], [7, 8, 0, 9]])
def test_relative_excess_is_the_weighted_sum_over_pairs(rows_K: list[int]) -> None:
    logits_BK, weights_KK = _logits(len(rows_K)), pair_weights(torch.tensor(rows_K))
    found_B = relative_excess(logits_BK, weights_KK, CommonScale.of(logits_BK, weights_KK))
    assert found_B.tolist() == pytest.approx(_slow(logits_BK, rows_K), rel=1e-9)


def test_offsets_of_whole_scenarios_and_equal_towers_give_no_excess() -> None:
    logits_BK = _logits(1).double().expand(50, 3) + torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)
    weights_KK = pair_weights(torch.tensor([5, 6, 7]))
    assert relative_excess(logits_BK, weights_KK, CommonScale.of(logits_BK, weights_KK)).abs().max() < 1e-9


def test_towers_that_say_nothing_and_a_single_tower_have_no_excess() -> None:
    for logits_BK, rows in ((torch.zeros(5, 3), [1, 2, 3]), (_logits(1), [9])):
        weights_KK = pair_weights(torch.tensor(rows))
        assert relative_excess(logits_BK, weights_KK, CommonScale.of(logits_BK, weights_KK)).abs().max() == 0


@pytest.mark.parametrize("rows_K", [[100, 200, 300, 400], [600, 300, 100], [7, 8, 0]])
def test_drawn_pairs_are_without_bias_in_numerator_and_denominator(rows_K: list[int]) -> None:
    """Over the distribution that pairs are drawn from, summed up pair by pair."""
    logits_BK, weights_KK = _logits(len(rows_K)).double(), pair_weights(torch.tensor(rows_K))
    scale = CommonScale.of(logits_BK, weights_KK)
    alone = CommonScale(scale.centre_K, scale.base, torch.tensor(0.0))
    z_BK = scale.without_offsets(logits_BK)
    excess_B, signal_B = torch.zeros(50, dtype=torch.float64), torch.zeros(50, dtype=torch.float64)
    for j, k in product(range(len(rows_K)), repeat=2):
        pair = torch.tensor([[[j, k]]]).expand(50, 1, 2)
        of_pair_B = signal(z_BK[:, [j, k]], scale.base, torch.tensor([[0.0, 0.5], [0.5, 0.0]]).double())
        signal_B += weights_KK[j, k] * of_pair_B
        excess_B += weights_KK[j, k] * relative_pair_excess(logits_BK[:, None, [j, k]], pair, alone) * of_pair_B
    torch.testing.assert_close(signal_B, signal(z_BK, scale.base, weights_KK), atol=1e-12, rtol=1e-9)
    expected_B = relative_excess(logits_BK, weights_KK, scale) * (signal_B + scale.signal)
    torch.testing.assert_close(excess_B, expected_B, atol=1e-12, rtol=1e-9)


def test_a_pair_with_the_weight_one_is_the_exact_excess() -> None:
    logits_BK, weights_KK = _logits(2).double(), pair_weights(torch.tensor([5, 9]))
    scale = CommonScale.of(logits_BK, weights_KK)
    pairs = torch.tensor([[[0, 1], [1, 0]]]).expand(50, 2, 2)
    found_B = relative_pair_excess(torch.stack([logits_BK, logits_BK.flip(1)], dim=1), pairs, scale)
    torch.testing.assert_close(found_B, relative_excess(logits_BK, weights_KK, scale), atol=1e-12, rtol=1e-9)
