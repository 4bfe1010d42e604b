"""Phase `reference` against the formula that its module states, term by term and row by row."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from msr_models.ssim.corrections import WideCorrections
from msr_models.ssim.reference import _excess, learn_gate_from_reference
from msr_models.ssim.search import _warm_up
from msr_models.ssim.search_state import KL_WEIGHT_STEP, SearchState
from schemas.pipeline_spec import SearchSpec
from tests.support.planted_log import planted_log

SMALL: dict[str, Any] = {
    "warmup_epochs": 1,
    "epochs": 1,
    "batch_size": 128,
    "embedding_dim": 8,
    "hidden": (16, 8),
    "selector_hidden": (8,),
    "learning_rate": 3e-3,
}


def warmed(**changes: Any) -> SearchState:
    window = planted_log(rows=300, users=30, items=20, shares=(3, 2, 1)).window
    torch.manual_seed(1)
    state = SearchState(window, SearchSpec(**(SMALL | changes)))
    _warm_up(state)
    return state


def sigma(z: float) -> float:
    return 1 / (1 + math.exp(-z))


@torch.no_grad()
def tower_logits(state: SearchState) -> list[list[float]]:
    """t_ik of the module's docstring."""
    window, model = state.window, state.model.eval()
    batch = window.batch(torch.arange(len(window)))
    logits_NK = model.scenario_logits(model.embed(batch), batch)
    own_N = logits_NK.gather(1, window.scenario_N[:, None].long()).squeeze(1)
    corrections = WideCorrections(window.layout, window.num_scenarios, torch.device("cpu"))
    rows = state.rows
    corrections.fit(own_N[rows], window.label_N[rows], window.scenario_N[rows], window.slot_ids_NS[rows])
    found: list[list[float]] = (logits_NK.double() + corrections.of_batch(batch).double()).tolist()
    return found


def transcribed(state: SearchState) -> list[float]:
    """e_i."""
    t, towers = tower_logits(state), range(state.window.num_scenarios)
    n = torch.bincount(state.window.scenario_N[state.rows], minlength=len(towers)).tolist()
    w = {(j, k): n[j] * n[k] / (n[j] + n[k]) if j != k else 0.0 for j, k in product(towers, repeat=2)}
    w = {pair: value / sum(w.values()) for pair, value in w.items()}
    W = [sum(w[j, k] for j in towers) for k in towers]
    centre = [sum(row[k] for row in t) / len(t) for k in towers]
    b = sum(W[k] * centre[k] for k in towers)
    z = [[row[k] - centre[k] + b for k in towers] for row in t]
    x = [sum(w[j, k] * (sigma(r[j]) - sigma(r[k])) * (r[j] - r[k]) / 2 for j, k in w) for r in z]
    s = [sum(W[k] * (sigma(r[k]) - sigma(b)) * (r[k] - b) / 2 for k in towers) for r in z]
    return [x_i / (s_i + sum(s) / len(s)) for x_i, s_i in zip(x, s, strict=True)]


def test_the_excess_of_every_row_is_that_of_the_formula() -> None:
    state = warmed()
    assert len(state.held_out) > 0, "held-out rows have one too"
    assert _excess(state).tolist() == pytest.approx(transcribed(state), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("target", [0.3, None])
def test_a_step_descends_the_formula(monkeypatch: pytest.MonkeyPatch, target: float | None) -> None:
    """Loss, lambda and the threshold's gradient of the first step, one batch over all rows."""
    state = warmed(batch_size=300, target_share_rate=target, kl_weight=0.7)
    e = torch.tensor(transcribed(state))
    seen: dict[str, float] = {}
    inner = state.selector_step

    def watched(loss: torch.Tensor, gate_B: torch.Tensor) -> None:
        batch = state.window.batch(torch.arange(300))
        with torch.no_grad():
            share_logits_B = state.selector.score_batch(batch)
        g_B = (share_logits_B.sigmoid() > state.gate.threshold.detach()).double()
        want = (g_B * e / e.mean()).mean() + 0.7 * F.softplus(-share_logits_B).mean()
        pull = 0.0 if target is None else (target - float(g_B.mean()))
        seen.update(loss=float(loss.detach()), want=float(want) + 0.5 * pull, pull=pull)
        inner(loss, gate_B)
        assert state.gate.threshold.grad is not None
        seen["gradient"] = float(state.gate.threshold.grad)

    monkeypatch.setattr(state, "selector_step", watched)
    learn_gate_from_reference(state)
    assert seen["loss"] == pytest.approx(seen["want"], rel=1e-4)
    assert state.kl_weight == pytest.approx(0.7 * math.exp(KL_WEIGHT_STEP * seen["pull"]))
    # Through g: d(mean g e)/d(eps) = -mean e, which is -1 in units of the mean.
    assert seen["gradient"] == pytest.approx(-1.0 if target is None else seen["pull"], abs=1e-5)


def test_the_selectors_table_starts_as_the_backbones_trains_with_the_gate_and_is_frozen_then() -> None:
    state = warmed()
    learn_gate_from_reference(state)
    first = state.model.embedding.get_parameter("weight")
    assert not torch.equal(state.selector.embedding.get_parameter("weight"), first)
    assert not state.selector.embedding.get_parameter("weight").requires_grad
