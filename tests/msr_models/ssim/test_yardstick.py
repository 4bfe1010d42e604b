"""How far towers disagree over a row, against the sum pair by pair."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from msr_models.ssim.objective import expected_excess, pair_weights
from msr_models.ssim.yardstick import CommonScale, relative_excess, relative_excess_of_drawn, signal


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


def test_the_excess_of_drawn_towers_is_that_of_the_pairs_among_them() -> None:
    rows_K = [600, 300, 100, 50]
    logits_BK, weights_KK = _logits(4).double(), pair_weights(torch.tensor(rows_K))
    scale = CommonScale.of(logits_BK, weights_KK)
    towers_BT = torch.stack([torch.randperm(4, generator=torch.Generator().manual_seed(i))[:3] for i in range(50)])
    found_B = relative_excess_of_drawn(logits_BK.gather(1, towers_BT), towers_BT, weights_KK, scale)
    z_BK = scale.without_offsets(logits_BK)
    for row, towers in enumerate(towers_BT.tolist()):
        among_TT = weights_KK[towers][:, towers]
        among_TT = among_TT / among_TT.sum()
        z_1T = z_BK[row, towers][None]
        expected = expected_excess(z_1T, among_TT) / (signal(z_1T, scale.base, among_TT) + scale.signal)
        assert float(found_B[row]) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("rows_K", [[100, 200], [600, 300, 100], [7, 8, 0, 9]])
def test_all_towers_drawn_are_the_exact_excess(rows_K: list[int]) -> None:
    logits_BK, weights_KK = _logits(len(rows_K)).double(), pair_weights(torch.tensor(rows_K))
    scale = CommonScale.of(logits_BK, weights_KK)
    towers_BT = torch.arange(len(rows_K)).flip(0).expand(50, -1)
    found_B = relative_excess_of_drawn(logits_BK.gather(1, towers_BT), towers_BT, weights_KK, scale)
    torch.testing.assert_close(found_B, relative_excess(logits_BK, weights_KK, scale), atol=1e-12, rtol=1e-9)


def test_one_tower_alone_disagrees_with_nobody() -> None:
    logits_BK, weights_KK = _logits(3).double(), pair_weights(torch.tensor([1, 2, 3]))
    scale = CommonScale.of(logits_BK, weights_KK)
    towers_BT = torch.zeros(50, 1, dtype=torch.int64)
    assert relative_excess_of_drawn(logits_BK[:, :1], towers_BT, weights_KK, scale).abs().max() == 0
