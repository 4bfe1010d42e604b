"""What must hold between search, store and reuse: limits, bytes and ranks that nothing may move."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from msr_models.data.source import ResidentRows
from msr_models.data.window import Window
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers
from msr_models.ssim.scoring import score_rows
from msr_models.ssim.search import SearchResult, run_search
from msr_models.ssim.selector import Selector
from msr_models.ssim.store import load_scorer, make_scorer, save_scorer
from msr_models.training.trainer import train
from schemas.pipeline_spec import SearchSpec, TrainerConfig
from tests.support.planted_log import planted_log

SPEC = SearchSpec(
    warmup_epochs=1,
    epochs=1,
    batch_size=256,
    embedding_dim=8,
    hidden=(16, 8),
    selector_hidden=(8,),
    backbone_options={"dropout": 0.4},
)
CONFIG = TrainerConfig(
    batch_size=96,
    max_epochs=2,
    patience=2,
    learning_rate=0.01,
    weight_decay=1e-6,
    seed=3,
    embedding_update="dense",
    weight_average=None,
)
OPTIONS: dict[str, Any] = {"embedding_dim": 4, "hidden": [16, 8]}


@pytest.fixture(scope="module")
def window() -> Window:
    return planted_log(rows=1_000, users=60, items=40).window


@pytest.fixture(scope="module")
def result(window: Window) -> SearchResult:
    return run_search(window, SPEC)


def _part(window: Window, rows: Tensor) -> Window:
    per_row = [f.name for f in fields(Window) if f.name.endswith(("_N", "_NS"))]
    return replace(window, **{name: getattr(window, name)[rows] for name in per_row})


def _fit(window: Window, model: MultiScenarioModel) -> None:
    train(model, ResidentRows(window, _train_rows(window)), ResidentRows(window, torch.arange(800, 1_000)), CONFIG)


def _train_rows(window: Window) -> Tensor:
    return torch.arange(800)


def test_ratio_1_is_mt_backbone_s_bit_for_bit(window: Window) -> None:
    """Against a plain trainer without masks: every row through every tower, mean over towers, AdamW."""
    plain = build_model("shared_bottom", OPTIONS, window.layout, 3, CONFIG.seed)
    plain.start_from_base_rates(*window.label_counts(_train_rows(window)))
    optimiser = torch.optim.AdamW(
        plain.parameters(), lr=CONFIG.learning_rate, weight_decay=CONFIG.weight_decay, fused=True
    )
    rows, epochs = _train_rows(window), []
    for epoch in (1, 2):
        generator = torch.Generator().manual_seed(CONFIG.seed * 1_000_003 + epoch)
        for part in rows[torch.randperm(len(rows), generator=generator)].split(CONFIG.batch_size):
            batch = window.batch(part)
            everywhere = Routing.everywhere(len(batch), 3, torch.device("cpu"))
            logits_KB = plain.routed_logits(plain.embed(batch), batch, everywhere).view(3, -1)
            losses_KB = F.binary_cross_entropy_with_logits(
                logits_KB, batch.label_B.expand_as(logits_KB), reduction="none"
            )
            optimiser.zero_grad()
            (losses_KB * (1.0 / 3)).sum(0).mean().backward()
            optimiser.step()
        epochs.append({key: value.clone() for key, value in plain.state_dict().items()})
    model = build_model("shared_bottom", OPTIONS, window.layout, 3, CONFIG.seed)
    ranked = replace(window, rank_N=torch.linspace(0.001, 0.999, 1_000, dtype=torch.float64))
    _fit(ranked.with_ratio(1.0), model)
    kept = [all(torch.equal(v, epoch[key]) for key, v in model.state_dict().items()) for epoch in epochs]
    assert any(kept), "no epoch of the plain trainer has these weights"


def test_reuse_leaves_the_selectors_bytes_alone_and_never_runs_it(
    window: Window, result: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = make_scorer("set", window, result)
    path = tmp_path / "selector.pt"
    sha256 = save_scorer(path, scorer, SPEC, {})
    ranks = scorer.masks(window, result.probs_N)["rank_pct"].to_numpy()
    shared = replace(window, rank_N=torch.from_numpy(ranks.copy())).with_ratio(0.3)
    assert shared.shared_N.float().mean().item() == pytest.approx(0.3, abs=0.01)

    def refuse(*args: Any) -> None:
        raise AssertionError("the selector ran inside the training loop")

    with monkeypatch.context() as patch:
        patch.setattr(Selector, "forward", refuse)
        _fit(shared, build_model("shared_bottom", OPTIONS, window.layout, 3, 3))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    assert save_scorer(tmp_path / "again.pt", scorer, SPEC, {}) == sha256, "the one in memory is the same too"
    assert np.array_equal(score_rows(load_scorer(path, sha256).selector, window), result.probs_N)


def test_masks_do_not_depend_on_how_rows_are_batched_or_partitioned(window: Window, result: SearchResult) -> None:
    """Scores and both ranks of any part of the rows, in any order, are those that the rows have in the whole."""
    scorer = make_scorer("set", window, result)
    whole = scorer.masks(window, result.probs_N)
    shuffled = torch.randperm(1_000, generator=torch.Generator().manual_seed(1))
    for rows in (shuffled, *shuffled.split(170), torch.arange(3), torch.tensor([999])):
        part = scorer.masks(_part(window, rows))
        assert part.equals(whole.take(rows.numpy()))


def test_the_backbones_dropout_does_not_reach_a_score(window: Window, result: SearchResult) -> None:
    assert any(layer.dropout == 0.4 for layer in _towers(window).modules() if isinstance(layer, StackedTowers))
    assert np.array_equal(score_rows(result.selector.train(), window), result.probs_N)
    assert not result.selector.eval().training


def test_towers_that_are_only_asked_are_asked_in_eval_mode(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    """The yardstick of `reference` and the metrics of held-out rows: dropout there would be noise in the answer."""
    asked: list[bool] = []
    for name in ("forward", "every"):
        original = getattr(StackedTowers, name)

        def watched(self: StackedTowers, *args: Any, original: Any = original) -> Tensor:
            if not torch.is_grad_enabled():
                asked.append(self.training)
            answer: Tensor = original(self, *args)
            return answer

        monkeypatch.setattr(StackedTowers, name, watched)
    run_search(window, SPEC)
    assert len(asked) >= 2 and not any(asked)


def _towers(window: Window) -> MultiScenarioModel:
    return build_model("shared_bottom", OPTIONS | SPEC.backbone_options, window.layout, 3, 1)


@pytest.mark.parametrize("num_scenarios", [2, 3])
@pytest.mark.parametrize("objective", ["reference", "joint"])
def test_a_collapse_is_rejected_with_reason_and_curves(objective: str, num_scenarios: int) -> None:
    """Through the real search: a threshold that nothing can pass, and one that everything does."""
    log = planted_log(rows=600, users=30, items=20, shares=(2.0, 1.0, 1.0)[:num_scenarios]).window
    # Scores start near .5, so that bounds above or below leave the gate no way out.
    cases = {
        "shares 0% of the rows": {"threshold_bounds": (0.9, 0.99), "threshold_init": 0.95, "kl_weight": 0.0},
        "shares 100% of the rows": {"threshold_bounds": (0.01, 0.1), "threshold_init": 0.05, "kl_weight": 0.0},
    }
    for reason, change in cases.items():
        spec = SPEC.model_dump() | {"objective": objective, "target_share_rate": None, "epochs": 2} | change
        found = run_search(log, SearchSpec(**spec))
        assert found.status == "rejected" and found.reason.startswith(reason), (reason, found.reason)
        assert [c["phase"] for c in found.curves][-1] in ("gate", "joint")
        assert len(found.curves) == 3


@pytest.mark.parametrize("objective", ["reference", "joint"])
def test_a_threshold_that_runs_away_is_rejected_with_its_curves(objective: str) -> None:
    log = planted_log(rows=3_000, users=100, items=40).window
    runs_away = {"threshold_bounds": (0.49, 0.51), "target_share_rate": None, "epochs": 3, "warmup_epochs": 3}
    fast = {"learning_rate": 3e-3, "selector_learning_rate": 3e-3, "backbone_options": {}, "kl_weight": 0.1}
    found = run_search(log, SearchSpec(**(SPEC.model_dump() | runs_away | fast | {"objective": objective})))
    assert (found.status, found.reason) == ("rejected", "threshold 0.5100 ran to its bound (0.49, 0.51)")
    assert [c["threshold"] for c in found.curves][-1] == pytest.approx(0.51)
