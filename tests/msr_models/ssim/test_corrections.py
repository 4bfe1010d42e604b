"""What towers have not learned about single ids, from their residuals."""

from __future__ import annotations

import numpy as np
import torch

from msr_models.data.layout import FieldLayout
from msr_models.ssim.corrections import WideCorrections
from tests.support.batches import LAYOUT, random_batch

ROWS, IDS = 40_000, 60
ONE_FIELD = FieldLayout(names=("item",), num_slots=(1,), num_rows=(IDS,), item_field=0, hist_length=1)


def planted(spread: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Labels whose log odds are -1 and an effect of N(0, spread ** 2) per scenario and id: effects, y, scenario, id."""
    rng = np.random.default_rng(seed)
    effect_KR = spread * rng.normal(size=(2, IDS))
    scenario_N, id_N = (rng.random(ROWS) < 0.1).astype(int), rng.integers(IDS, size=ROWS)
    label_N = rng.random(ROWS) < 1 / (1 + np.exp(1 - effect_KR[scenario_N, id_N]))
    found = (effect_KR, label_N.astype(np.float32), scenario_N, id_N.astype(np.int32))
    effect, label, scenario, ids = (torch.from_numpy(values) for values in found)
    return effect, label, scenario, ids[:, None]


def test_weights_are_a_newton_step_under_the_estimated_prior() -> None:
    _, label_N, scenario_N, ids_NS = planted(0.7)
    corrections = WideCorrections(ONE_FIELD, 2, torch.device("cpu"))
    corrections.fit(torch.full((ROWS,), -1.0), label_N, scenario_N, ids_NS)
    p = 1 / (1 + np.exp(1.0))
    for k in range(2):
        rows_of = [(scenario_N == k) & (ids_NS[:, 0] == i) for i in range(IDS)]
        residual = np.array([float((label_N[rows] - p).sum()) for rows in rows_of])
        curvature = np.array([int(rows.sum()) * p * (1 - p) for rows in rows_of])
        variance = max(0.0, (residual**2 - curvature).sum() / (curvature**2).sum())
        expected = residual / (curvature + 1 / variance)
        np.testing.assert_allclose(corrections.weight_RK[:, k].numpy(), expected, rtol=1e-4, atol=1e-6)


def test_effects_are_found_and_the_sparse_scenario_is_believed_less() -> None:
    effect_KR, label_N, scenario_N, ids_NS = planted(0.7)
    corrections = WideCorrections(ONE_FIELD, 2, torch.device("cpu"))
    corrections.fit(torch.full((ROWS,), -1.0), label_N, scenario_N, ids_NS)
    found_KR = corrections.weight_RK.t().double()
    for k in range(2):
        assert float(torch.corrcoef(torch.stack([found_KR[k], effect_KR[k]]))[0, 1]) > 0.85
    slope_K = (found_KR * effect_KR).sum(1) / effect_KR.square().sum(1)
    assert slope_K[1] < slope_K[0] < 1.2


def test_noise_is_not_corrected() -> None:
    _, label_N, scenario_N, ids_NS = planted(0.0, seed=3)
    corrections = WideCorrections(ONE_FIELD, 2, torch.device("cpu"))
    corrections.fit(torch.full((ROWS,), -1.0), label_N, scenario_N, ids_NS)
    assert corrections.weight_RK.abs().max() < 0.12


def test_a_batch_gets_the_sum_over_its_single_valued_fields_and_unknown_ids_count_as_zero() -> None:
    corrections = WideCorrections(LAYOUT, 3, torch.device("cpu"))
    corrections.weight_RK.copy_(torch.arange(LAYOUT.total_rows * 3).view(-1, 3))
    batch = random_batch(20, 3)
    batch.slot_ids_BS[0, 1] = 10_000
    got_BK = corrections.of_batch(batch)
    for row in range(20):
        expected_K = torch.zeros(3)
        for slot, start, rows in ((0, 0, 11), (1, 11, 9), (5, 25, 4)):  # user, item and price; tags has three slots
            known = int(batch.slot_ids_BS[row, slot])
            expected_K += corrections.weight_RK[start + (known if known < rows else 0)]
        assert torch.equal(got_BK[row], expected_K)
