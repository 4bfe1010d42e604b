"""Weights of rows in a search: 2 is the row twice in every mean, 0 the row left out, 1 no weight at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from msr_models.data.window import Window
from msr_models.experiments.split import select_rows
from msr_models.models.registry import build_model
from msr_models.ssim.corrections import WideCorrections
from msr_models.ssim.divergence import divergence_from_all_shared
from msr_models.ssim.objective import shared_instance_loss, tower_losses
from msr_models.ssim.sampled import draw_towers, sampled_loss
from msr_models.ssim.scoring import score_rows
from msr_models.ssim.search import run_search
from msr_models.ssim.yardstick import CommonScale
from schemas.pipeline_spec import KlForm, SearchSpec, TowerReduction
from tests.support.batches import LAYOUT, random_batch, take
from tests.support.planted_log import planted_log

GENERATOR = 11


def weights(rows: int = 40) -> tuple[Tensor, Tensor]:
    """(whole weights 0 .. 2, positions of the rows as often as they say)."""
    weight_B = torch.randint(0, 3, (rows,), generator=torch.Generator().manual_seed(GENERATOR))
    return weight_B, torch.repeat_interleave(torch.arange(rows), weight_B)


def test_eq_13_takes_a_row_of_weight_2_as_two_rows() -> None:
    batch, (weight_B, twice) = random_batch(40, 3), weights()
    generator = torch.Generator().manual_seed(1)
    losses_BK = tower_losses(torch.randn(40, 3, generator=generator), batch.label_B)
    gate_B = torch.randint(2, (40,), generator=generator).float()
    reductions: list[TowerReduction] = ["mean", "sum"]
    for reduction in reductions:
        want = shared_instance_loss(gate_B[twice], losses_BK[twice], batch.scenario_B[twice], reduction)
        got = shared_instance_loss(gate_B, losses_BK, batch.scenario_B, reduction, weight_B.float())
        torch.testing.assert_close(got, want)
        assert float(shared_instance_loss(gate_B, losses_BK, batch.scenario_B, reduction)) != pytest.approx(float(want))


def test_so_do_sampled_towers() -> None:
    batch, (weight_B, twice) = random_batch(40, 4), weights()
    model = build_model("shared_bottom", {"embedding_dim": 4, "hidden": [8]}, LAYOUT, 4, 1)
    generator = torch.Generator().manual_seed(2)
    gate_B = torch.randint(2, (40,), generator=generator).float()
    towers_BM = draw_towers(batch.scenario_B, 4, 2, generator)
    want, _ = sampled_loss(model, take(batch, twice), gate_B[twice], towers_BM[twice])
    got, _ = sampled_loss(model, replace(batch, weight_B=weight_B.float()), gate_B, towers_BM)
    torch.testing.assert_close(got, want)
    without, _ = sampled_loss(model, batch, gate_B, towers_BM)
    ones, _ = sampled_loss(model, replace(batch, weight_B=torch.ones(40)), gate_B, towers_BM)
    torch.testing.assert_close(ones, without)
    assert float(without.detach()) != pytest.approx(float(want), abs=1e-6)


@pytest.mark.parametrize("form", ["bernoulli", "linear"])
def test_so_does_the_divergence(form: KlForm) -> None:
    weight_B, twice = weights()
    logits_B = torch.randn(40, generator=torch.Generator().manual_seed(3))
    gate_B = (logits_B > 0).float()
    want = divergence_from_all_shared(form, gate_B[twice], logits_B[twice])
    torch.testing.assert_close(divergence_from_all_shared(form, gate_B, logits_B, weight_B.float()), want)
    assert float(divergence_from_all_shared(form, gate_B, logits_B)) != pytest.approx(float(want), abs=1e-4)


def test_so_do_corrections_and_what_rows_have_in_common() -> None:
    rows = 400
    batch, (weight_B, twice) = random_batch(rows, 3), weights(rows)
    logits_BK = torch.randn(rows, 3, generator=torch.Generator().manual_seed(4)).double()
    own_B = logits_BK.gather(1, batch.scenario_B[:, None]).squeeze(1)
    label_B = (batch.slot_ids_BS[:, 1] % 2).float()
    fits, every = [], torch.arange(rows)
    for at, weight_N in ((twice, None), (every, weight_B.double()), (every, None)):
        corrections = WideCorrections(LAYOUT, 3, torch.device("cpu"))
        corrections.fit(own_B[at], label_B[at], batch.scenario_B[at], batch.slot_ids_BS[at], weight_N)
        fits.append(corrections.weight_RK)
    torch.testing.assert_close(fits[1], fits[0], atol=1e-6, rtol=1e-5)
    assert float((fits[2] - fits[0]).abs().max()) > 1e-3
    pairs_KK = (torch.ones(3, 3) - torch.eye(3)).double() / 6
    want, got = CommonScale.of(logits_BK[twice], pairs_KK), CommonScale.of(logits_BK, pairs_KK, weight_B.double())
    for name in ("centre_K", "base", "signal"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name))


SPEC: dict[str, Any] = {
    "warmup_epochs": 1, "epochs": 1, "batch_size": 128, "embedding_dim": 4, "hidden": [8], "selector_hidden": [8],
    "learning_rate": 0.01, "selector_learning_rate": 0.01,
}  # fmt: skip


@pytest.fixture(scope="module")
def window() -> Window:
    return planted_log(rows=1_500, users=60, items=40).window


@pytest.mark.parametrize(
    "changes",
    [{}, {"tower_sample": 1}, {"objective": "joint"}, {"objective": "joint", "tower_sample": 1}],
    ids=["reference", "reference sampled", "joint", "joint sampled"],
)
def test_a_search_leaves_out_rows_of_weight_0_and_heeds_the_others(window: Window, changes: dict[str, Any]) -> None:
    spec = SearchSpec.model_validate(SPEC | changes)
    keep_N = window.instance_id_N % 5 != 1
    left = select_rows(window, keep_N.nonzero().squeeze(1))
    part, zeros = run_search(left, spec), run_search(replace(window, weight_N=keep_N.float()), spec)
    assert zeros.metrics["rows"] == part.metrics["rows"]
    assert zeros.metrics["logloss"] == pytest.approx(part.metrics["logloss"], abs=1e-6)
    every = torch.arange(len(window))
    np.testing.assert_allclose(zeros.probs_N, score_rows(part.selector, window, every), atol=1e-4)
    ones = run_search(replace(window, weight_N=torch.ones(len(window))), spec)
    without = run_search(window, spec)
    np.testing.assert_allclose(ones.probs_N, without.probs_N, atol=1e-4)
    heavy = run_search(replace(window, weight_N=1.0 + 3.0 * (window.scenario_N == 2).float()), spec)
    assert float(np.abs(heavy.probs_N - without.probs_N).max()) > 1e-3
