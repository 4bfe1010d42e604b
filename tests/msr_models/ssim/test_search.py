"""The search: deterministic, K free, collapses are rejected with a reason, planted truth is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from msr_models.data.window import Window
from msr_models.ssim import search as search_module
from msr_models.ssim.reference import learn_gate_from_reference
from msr_models.ssim.search import run_search
from msr_models.ssim.search_state import HOLD_OUT_EVERY, SearchState
from msr_models.ssim.selector import Selector
from schemas.errors import TrainingError
from schemas.pipeline_spec import SearchSpec
from tests.support.planted_log import planted_log


def _spec(**changes: Any) -> SearchSpec:
    """A quick search."""
    small: dict[str, Any] = {
        "warmup_epochs": 1,
        "epochs": 1,
        "batch_size": 256,
        "embedding_dim": 8,
        "hidden": (16, 8),
        "selector_hidden": (8,),
        "learning_rate": 3e-3,
        "selector_learning_rate": 3e-3,
    }
    return SearchSpec(**(small | changes))


def _log(rows: int = 4_000, **changes: Any) -> Any:
    return planted_log(rows=rows, users=100, items=40, **changes)


@pytest.mark.parametrize("objective", ["reference", "joint"])
def test_the_same_window_and_spec_give_the_same_bits(objective: str) -> None:
    window = _log().window
    first = run_search(window, _spec(objective=objective))
    torch.manual_seed(99)
    again = run_search(window, _spec(objective=objective))
    assert np.array_equal(first.probs_N, again.probs_N)
    assert (first.threshold, first.kl_weight, first.curves) == (again.threshold, again.kl_weight, again.curves)
    other = run_search(window, _spec(objective=objective, seed=2))
    assert not np.array_equal(first.probs_N, other.probs_N)


def test_the_trunk_is_independent_of_the_objective() -> None:
    """By default it is what the objective always had, and then the set's id is what it was, too."""
    window = _log(rows=1_000).window
    found: dict[tuple[str, str | None], NDArray[np.float32]] = {}
    for objective, default in (("reference", "field_wise"), ("joint", "dense")):
        for trunk in (None, "dense", "field_wise"):
            spec = _spec(objective=objective, trunk=trunk)
            result = run_search(window, spec)
            assert result.selector.trunk == (trunk or default)
            assert ("trunk" in spec.model_dump()) is (trunk is not None)
            found[objective, trunk] = result.probs_N
        assert np.array_equal(found[objective, None], found[objective, default])
        assert not np.array_equal(found[objective, "dense"], found[objective, "field_wise"])


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    run_search(_log(rows=500).window, _spec())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("objective", "sample"), [("reference", None), ("reference", 2), ("joint", None), ("joint", 1)]
)
@pytest.mark.parametrize("num_scenarios", [1, 2, 3, 12, 50])
def test_any_number_of_scenarios(num_scenarios: int, objective: str, sample: int | None) -> None:
    window = _log(rows=5_000, shares=(1.0,) * num_scenarios).window
    result = run_search(window, _spec(objective=objective, tower_sample=sample))
    assert result.probs_N.shape == (5_000,)
    assert np.isfinite(result.probs_N).all()
    assert ((result.probs_N >= 0) & (result.probs_N <= 1)).all()
    if num_scenarios == 1:
        assert (result.status, result.reason) == ("rejected", "one scenario only: there is none to share with")


@pytest.mark.parametrize("objective", ["reference", "joint"])
@pytest.mark.parametrize("kl_form", ["bernoulli", "linear"])
@pytest.mark.parametrize("estimator", ["straight_through", "relu"])
def test_every_option_runs_and_the_curves_are_kept(
    estimator: str, kl_form: str, objective: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = _spec(gate_estimator=estimator, kl_form=kl_form, objective=objective, target_share_rate=None)
    result = run_search(_log(rows=1_000).window, spec)
    assert [c["phase"] for c in result.curves] == ["warm-up", "gate" if objective == "reference" else "joint"]
    assert {"loss", "share_rate", "threshold", "kl_weight"} <= set(result.curves[-1])
    assert result.kl_weight == spec.kl_weight, "without a target lambda is fixed"
    assert caplog.text.count(" epoch ") >= 2


@pytest.mark.parametrize("objective", ["reference", "joint"])
def test_masks_that_a_window_brings_along_change_nothing(objective: str) -> None:
    window = _log(rows=1_000).window
    masked = replace(window, shared_N=torch.arange(1_000) % 2 == 0)
    first, second = (run_search(w, _spec(objective=objective)) for w in (window, masked))
    assert np.array_equal(first.probs_N, second.probs_N)


def test_a_scenario_without_rows_is_no_obstacle() -> None:
    log = _log(rows=2_000)
    window = replace(log.window, scenario_names=(*log.window.scenario_names, "empty"))
    result = run_search(window, _spec())
    assert np.isfinite(result.probs_N).all()


def test_lambda_is_scheduled_to_the_share_rate_asked_for() -> None:
    window = _log(rows=20_000).window
    rates = [run_search(window, _spec(epochs=3, target_share_rate=t)).shared_N.mean() for t in (0.2, 0.7)]
    assert rates == pytest.approx([0.2, 0.7], abs=0.1)


def test_the_literal_joint_objective_collapses_and_is_rejected() -> None:
    spec = SearchSpec(
        objective="joint",
        warmup_epochs=0,
        batch_size=64,
        hidden=(16, 8),
        selector_hidden=(32,),
        embedding_dim=16,
        learning_rate=1e-3,
        target_share_rate=None,
    )
    result = run_search(_log(rows=10_000).window, spec)
    assert result.status == "rejected"
    assert result.reason == "shares 100% of the rows: the gate collapsed"
    assert result.curves, "the curves of a rejected search are kept"


def test_a_search_that_shares_nothing_is_rejected() -> None:
    result = run_search(_log().window, _spec(kl_weight=0.0, target_share_rate=None, epochs=6))
    assert result.status == "rejected"
    assert result.reason == "shares 0% of the rows: the gate collapsed"


def test_a_threshold_that_runs_away_is_rejected_with_its_bound() -> None:
    spec = _spec(threshold_bounds=(0.49, 0.51), target_share_rate=None, epochs=2, kl_weight=0.5)
    result = run_search(_log().window, spec)
    assert result.status == "rejected"
    assert result.reason.startswith("threshold 0.5100 ran to its bound (0.49, 0.51)")


def test_a_fixed_threshold_stays_where_it_is_and_is_no_fault() -> None:
    fixed = {"threshold_init": 0.4, "threshold_bounds": (0.4, 0.4)}
    result = run_search(_log(rows=20_000).window, _spec(epochs=3, **fixed))
    assert (result.status, result.reason) == ("accepted", "")
    assert {round(float(curve["threshold"]), 6) for curve in result.curves} == {0.4}


@pytest.mark.parametrize(("target", "end"), [(0.3, "0%"), (0.7, "100%")])
def test_a_search_that_shares_almost_none_or_almost_all_is_rejected(target: float, end: str) -> None:
    window = _log(rows=20_000).window
    asked = {"epochs": 3, "target_share_rate": target, "threshold_bounds": (0.5, 0.5)}
    result = run_search(window, _spec(**asked))
    assert (result.status, result.reason) == ("accepted", "")
    rate = float(result.shared_N.mean())
    guarded = run_search(window, _spec(**asked, collapse_share=0.49))
    assert np.array_equal(guarded.probs_N, result.probs_N), "a guard changes no score"
    told = f"shares {rate:.2%} of the rows, within search.collapse_share 0.49 of {end}: the gate collapsed"
    assert (guarded.status, guarded.reason) == ("rejected", told)


@pytest.mark.parametrize(("rate", "rejected"), [(0.0008, True), (0.003, False), (0.997, False), (0.9992, True)])
def test_by_default_a_thousandth_is_too_few(monkeypatch: pytest.MonkeyPatch, rate: float, rejected: bool) -> None:
    _score_as(
        monkeypatch, lambda window: (np.random.default_rng(1).permutation(len(window)) + 0.5) / len(window) < rate
    )
    result = run_search(_log().window, _spec())
    assert (result.status == "rejected") == rejected, result.reason
    assert result.reason.endswith("the gate collapsed") == rejected


def test_an_accepted_search_says_which_scenarios_share_none_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    window = _log(rows=2_000).window
    scenario_N = window.scenario_N.numpy()
    _score_as(monkeypatch, lambda _: (scenario_N == 1) | ((scenario_N == 0) & (np.arange(2_000) % 2 == 0)))
    result = run_search(window, _spec())
    rows_K = np.bincount(scenario_N)
    names = window.scenario_names
    told = ", ".join(
        f"scenario {names[k]} shares {rate} of its {rows_K[k]:,} rows" for k, rate in ((1, "100%"), (2, "0%"))
    )
    assert (result.status, result.reason) == ("accepted", told)


def _score_as(monkeypatch: pytest.MonkeyPatch, shared: Callable[[Window], NDArray[np.bool_]]) -> None:
    """The search's scores say that the rows of `shared` are to be shared, whatever was learned."""

    def scores(selector: Selector, window: Window) -> NDArray[np.float32]:
        return np.where(shared(window), 0.99, 0.01).astype(np.float32)

    monkeypatch.setattr(search_module, "score_rows", scores)


def test_a_loss_that_is_not_finite_names_the_remedy() -> None:
    with pytest.raises(TrainingError, match=r"not finite.*lower search\.learning_rate"):
        run_search(_log(rows=1_000).window, _spec(learning_rate=1e30, warmup_epochs=3))


def test_labels_of_one_class_and_an_unknown_backbone_are_refused() -> None:
    window = _log(rows=500).window
    with pytest.raises(TrainingError, match="nothing can be learned"):
        run_search(replace(window, label_N=torch.ones(500)), _spec())
    with pytest.raises(TrainingError, match="shared_bottom"):
        run_search(window, _spec(backbone="shared_botom"))


def test_the_reference_towers_do_not_move_while_the_gate_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    original = learn_gate_from_reference

    def watched(state: SearchState) -> None:
        before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
        original(state)
        kept.append(all(torch.equal(before[name], tensor) for name, tensor in state.model.state_dict().items()))

    monkeypatch.setattr(search_module, "learn_gate_from_reference", watched)
    result = run_search(_log(rows=1_000).window, _spec())
    assert kept == [True]
    assert not result.selector.training


def test_held_out_rows_do_not_train_the_backbone() -> None:
    """Their labels may be anything: the scores, which are label-free beyond the towers, stay the same."""
    window = _log(rows=2_000).window
    labels = window.label_N.clone()
    labels[window.instance_id_N % HOLD_OUT_EVERY == 0] = 1
    first, turned = run_search(window, _spec()), run_search(replace(window, label_N=labels), _spec())
    assert np.array_equal(first.probs_N, turned.probs_N)
    assert first.metrics != turned.metrics


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["shared_bottom", "star"])
def test_the_score_separates_planted_shareable_rows_over_seeds(backbone: str) -> None:
    """The planted log at its full size, with the default search."""
    found = []
    for seed in range(5):
        log = planted_log(rows=120_000, users=2_000, items=600, seed=seed)
        result = run_search(log.window, SearchSpec(backbone=backbone))
        assert (result.status, result.reason) == ("accepted", "")
        found.append(roc_auc_score(log.shareable_N, result.probs_N))
    assert np.mean(found) >= 0.9 and min(found) > 0.88, found


@pytest.mark.slow
def test_drawn_pairs_of_towers_cost_little_of_the_score() -> None:
    log = planted_log(rows=60_000, users=1_000, items=300, seed=1)
    exact, drawn = (
        roc_auc_score(log.shareable_N, run_search(log.window, SearchSpec(tower_sample=pairs)).probs_N)
        for pairs in (None, 2)
    )
    assert exact - drawn < 0.02, (exact, drawn)


@pytest.mark.gpu
@pytest.mark.parametrize("objective", ["reference", "joint"])
def test_a_gpu_finds_what_a_cpu_finds(objective: str) -> None:
    window = _log(rows=8_000).window
    spec = _spec(objective=objective, warmup_epochs=3)
    on_cpu, on_gpu = (run_search(window, spec, device=device).probs_N for device in ("cpu", "cuda"))
    ranks = [np.argsort(np.argsort(probs_N)) for probs_N in (on_cpu, on_gpu)]
    assert np.corrcoef(np.stack(ranks).astype(float))[0, 1] > 0.8
