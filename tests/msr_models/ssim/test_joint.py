"""The joint phase: its gradients inside a real step, what each option does, and that nothing is left unseeded."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from msr_models.data.window import Window
from msr_models.models.shared_bottom import SharedBottom
from msr_models.modules.routing import Routing
from msr_models.ssim.joint import _Joint, temperature_at
from msr_models.ssim.objective import tower_losses
from msr_models.ssim.scoring import score_rows
from msr_models.ssim.search import SearchResult, run_search
from msr_models.ssim.search_state import SearchState
from schemas.errors import TrainingError
from schemas.pipeline_spec import SearchSpec
from tests.support.planted_log import planted_log

SMALL: dict[str, Any] = {
    "objective": "joint",
    "warmup_epochs": 1,
    "epochs": 1,
    "batch_size": 256,
    "embedding_dim": 8,
    "hidden": (16, 8),
    "selector_hidden": (8,),
    "learning_rate": 3e-3,
    "selector_learning_rate": 3e-3,
    "target_share_rate": None,
}


@pytest.fixture(scope="module")
def window() -> Window:
    return planted_log(rows=1_500, users=60, items=40, shares=(4, 3, 2, 1)).window


@pytest.fixture(scope="module")
def plain(window: Window) -> SearchResult:
    return run_search(window, SearchSpec(**SMALL))


def _state(window: Window, **changes: Any) -> SearchState:
    return SearchState(window, SearchSpec(**(SMALL | changes)))


@pytest.mark.parametrize(
    "change",
    [
        {"gate_estimator": "relu"},
        {"kl_form": "linear"},
        {"kl_weight": 2.0},
        {"tower_reduction": "sum"},
        {"tower_sample": 1},
        {"tower_sample": 2},
        {"temperature": (1.0, 1000.0)},
        {"threshold_init": 0.45},
        {"target_share_rate": 0.9},
        {"warmup_epochs": 2},
        {"epochs": 2},
        {"learning_rate": 1e-3},
        {"selector_learning_rate": 1e-3},
        {"weight_decay": 1e-2},
        {"backbone": "mmoe"},
        {"backbone_options": {"dropout": 0.5}},
        {"hidden": (8,)},
        {"selector_hidden": (4,)},
        {"embedding_dim": 4},
        {"batch_size": 128},
        {"seed": 5},
    ],
    ids=str,
)
def test_every_option_changes_the_scores(window: Window, plain: SearchResult, change: dict[str, Any]) -> None:
    assert not np.array_equal(run_search(window, SearchSpec(**(SMALL | change))).probs_N, plain.probs_N)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_gate_of_a_real_step_gets_the_closed_form_in_both_terms(window: Window, reduction: str) -> None:
    """B * dL/dg_i = mean (or sum) of tower losses - own loss; with the first term's gate detached it would be without
    the own loss.
    """
    state = _state(window, kl_weight=0.0, tower_reduction=reduction)
    before, kept = copy.deepcopy(state.model), _watched_gate(state)
    rows = state.rows[:200]
    _Joint(state).step(rows)
    batch = window.batch(rows)
    losses_BK = tower_losses(before.scenario_logits(before.embed(batch), batch), batch.label_B)
    own_B = torch.stack([losses_BK[i, k] for i, k in enumerate(batch.scenario_B.tolist())])
    closed_B = (losses_BK.mean(1) if reduction == "mean" else losses_BK.sum(1)) - own_B
    assert 0 < kept[0].detach().sum() < 200, "rows on both sides of the threshold"
    assert kept[0].grad is not None
    torch.testing.assert_close(kept[0].grad * 200, closed_B.detach(), atol=1e-5, rtol=1e-4)


def _watched_gate(state: SearchState) -> list[Tensor]:
    kept: list[Tensor] = []

    def watch(module: Any, inputs: Any, gate_B: Tensor) -> None:
        gate_B.retain_grad()
        kept.append(gate_B)

    state.gate.register_forward_hook(watch)
    return kept


def test_learning_rates_are_separate(window: Window) -> None:
    for still, moving in (("selector_learning_rate", "model"), ("learning_rate", "selector")):
        state = _state(window, **{still: 1e-30})
        before = {name: copy.deepcopy(getattr(state, name).state_dict()) for name in ("model", "selector")}
        _Joint(state).step(state.rows[:200])
        moved = {
            name: max(float((value.float() - before[name][key].float()).abs().max()) for key, value in now.items())
            > 1e-9
            for name, now in ((name, _filled(getattr(state, name))) for name in before)
        }
        assert moved == {"model": moving == "model", "selector": moving == "selector"}


def _filled(module: torch.nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in module.state_dict().items() if value.numel()}


def test_all_others_drawn_is_the_exact_search(window: Window, plain: SearchResult) -> None:
    """K - 1 = 3: with 3 or more towers drawn nothing is left to chance (the sums run in another order)."""
    for drawn in (3, 50):
        sampled = run_search(window, SearchSpec(**SMALL, tower_sample=drawn))
        np.testing.assert_allclose(sampled.probs_N, plain.probs_N, atol=1e-3)
        assert sampled.curves[-1]["loss"] == pytest.approx(plain.curves[-1]["loss"], abs=1e-4)


def test_draws_follow_the_seed_alone(window: Window) -> None:
    spec = SearchSpec(**SMALL, tower_sample=1)
    first = run_search(window, spec)
    torch.manual_seed(1234)
    again = run_search(window, spec)
    assert np.array_equal(first.probs_N, again.probs_N)
    assert first.curves == again.curves


def test_the_temperature_rises_geometrically_over_all_search_epochs(window: Window) -> None:
    assert [temperature_at(step, 4, 1, 1000) for step in range(4)] == pytest.approx([1, 10, 100, 1000])
    assert temperature_at(0, 1, 2.0, 5.0) == 2.0
    seen: list[float] = []
    state = _state(window, epochs=2, temperature=(1.0, 100.0))
    joint = _Joint(state)
    state.gate.register_forward_pre_hook(lambda module, inputs: seen.append(state.temperature))
    for epoch in (1, 2):
        state.epoch("joint", epoch, 2, state.rows, joint.step)
    assert len(seen) == 12
    assert [seen[0], seen[-1]] == pytest.approx([1, 100])
    assert np.diff(np.log(seen)) == pytest.approx(np.log(100) / 11)


def test_stored_scores_and_threshold_make_the_gate_of_the_last_temperature(window: Window) -> None:
    """A score without the temperature keeps its rank; the threshold is translated, so that the gate stays the same."""
    spec = SearchSpec(**(SMALL | {"temperature": (1.0, 50.0), "kl_weight": 0.05, "threshold_init": 0.6}))
    result = run_search(window, spec)
    eps = float(result.curves[-1]["threshold"])
    logits_N = np.log(result.probs_N.astype(float)) - np.log1p(-result.probs_N.astype(float))
    at_the_end_N = 1 / (1 + np.exp(-50.0 * logits_N)) > eps
    assert 0 < at_the_end_N.mean() < 1, "one side only: this test proves nothing"
    assert (at_the_end_N == result.shared_N).mean() > 0.999
    assert not np.array_equal(result.probs_N > np.float32(eps), result.shared_N)
    assert len(np.unique(result.probs_N)) > 500, "ranks are lost"


@pytest.mark.parametrize("sample", [None, 1])
def test_a_models_penalty_counts_in_every_phase(
    window: Window, sample: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SearchSpec(**SMALL, tower_sample=sample)
    before = run_search(window, spec)

    def penalised(self: Any, e_BE: Tensor, batch: Any, routing: Routing) -> tuple[Tensor, Tensor]:
        logits_V = self.network_logits(e_BE, batch, routing)
        assert torch.is_grad_enabled(), "visits that train nothing are not penalised"
        return logits_V, 5.0 + logits_V.square().mean()

    monkeypatch.setattr(SharedBottom, "penalised_network_logits", penalised)
    after = run_search(window, spec)
    for was, now in zip(before.curves, after.curves, strict=True):
        assert float(now["loss"]) > float(was["loss"]) + 5
    assert not np.array_equal(before.probs_N, after.probs_N), "the penalty's gradient counts too"


def test_a_backbone_without_towers_is_refused_and_says_which_have_some(window: Window) -> None:
    with pytest.raises(TrainingError, match=r"'logistic_regression' has one output.*set search\.backbone to.*star"):
        run_search(window, SearchSpec(**SMALL, backbone="logistic_regression"))


def test_a_wrong_backbone_option_is_refused_by_the_backbones_config(window: Window) -> None:
    with pytest.raises(TrainingError, match="'shared_bottom': no option 'num_experts'"):
        run_search(window, SearchSpec(**SMALL, backbone_options={"num_experts": 3}))


def test_the_selector_keeps_the_embeddings_it_was_trained_with(window: Window, plain: SearchResult) -> None:
    state = _state(window)
    first = state.model.embedding.get_parameter("weight")
    assert not torch.equal(plain.selector.embedding.get_parameter("weight"), first), "the trained ones, not the first"
    assert np.array_equal(score_rows(plain.selector, window), plain.probs_N)
