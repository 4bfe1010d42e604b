"""The masks that the arms train with, and the ratio that is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from msr_models.experiments.arms import ablations, arms, best_ratio, random_mask
from msr_models.experiments.planted_log import planted_split
from msr_models.experiments.reuse import as_one_study, ratio_sweep, reusability
from msr_models.experiments.runner import ExperimentRunner, Mask
from msr_models.experiments.split import Split
from msr_models.experiments.times import times
from msr_models.experiments.trials import Trial, TrialStore
from schemas.errors import TrainingError
from tests.msr_models.experiments.test_runner import SEARCH, TRAINER

RATIOS = (0.0, 0.25, 0.5, 1.0)


class RecordingRunner(ExperimentRunner):
    """A runner that trains nothing: it records the calls, and validation prefers ratios near 0.5."""

    def train(self, model: str, seed: int, mode: Any = "towers", shared_N: Mask | None = None) -> Trial:
        rate = 0.0 if shared_N is None else float(shared_N.mean())
        self.trained.append((model, seed, mode, rate, shared_N))
        seconds = {"towers": 4.0 + 2 * rate, "pooled": 2.0, "finetune": 8.0, "per_scenario": 6.0}[mode]
        record = {
            "seconds": seconds,
            "epochs_run": 4.0 if mode == "finetune" else 2.0,
            "share_rate": rate,
            "validation_auc": 0.7 - abs(rate - 0.5) / 10,
            "seed": seed,
        }
        return Trial(record, Path(f"{model}-{mode}-{seed}-{rate:.2f}.npz"))

    def find_shared(self, backbone: str, seed: int, **changes: Any) -> Trial:
        self.searches.append((backbone, seed, changes))
        status = "rejected" if (backbone in self.rejects or changes) else "accepted"
        costs = {"seconds": 5.0, "epochs_run": 10.0}
        return _Found({"status": status, "reason": "", "probs": len(self.split.train), **costs}, Path("none"))

    trained: list[Any]
    searches: list[Any]
    rejects: set[str]


class _Found(Trial):
    def array(self, name: str) -> Any:
        """Scores that rise with the row."""
        return np.linspace(0, 1, self.record["probs"]).astype(np.float32)


@pytest.fixture
def split() -> Split:
    return planted_split(rows=1_000, users=20, items=10, seed=0, name="planted")


@pytest.fixture
def runner(split: Split, tmp_path: Path) -> RecordingRunner:
    made = RecordingRunner(split=split, store=TrialStore(tmp_path), trainer=TRAINER, search=SEARCH)
    made.trained, made.searches, made.rejects = [], [], set()
    return made


def test_the_arms_share_no_all_or_selected_rows(runner: RecordingRunner, split: Split) -> None:
    study = arms(runner, ["shared_bottom"], [1, 2], RATIOS)
    names = ["mt_backbone", "mt_backbone_s", "st_backbone", "finetune", "per_scenario", "ssim", "joint", "oracle"]
    assert list(study.groups) == [f"shared_bottom/{n}" for n in names]
    assert set(study.base_of.values()) == {"shared_bottom/mt_backbone"}
    assert all(len(trials) == 2 for trials in study.groups.values())
    rates = {name: study.groups[f"shared_bottom/{name}"][0].record["share_rate"] for name in names}
    assert (rates["mt_backbone"], rates["mt_backbone_s"]) == (0.0, 1.0)
    assert rates["ssim"] == pytest.approx(0.5, abs=0.01), "the ratio that is best on validation"
    assert [changes for _, _, changes in runner.searches] == [{}, {"objective": "joint"}] * 2
    modes = {trial.arrays_path.name.split("-")[1] for trial in study.groups["shared_bottom/st_backbone"]}
    assert modes == {"pooled"}
    assert split.shareable_N is not None
    assert any(np.array_equal(m, split.shareable_N) for *_, m in runner.trained if m is not None)
    fact = study.facts["shared_bottom/ssim"][0]
    assert fact["ratio"] == 0.5 and fact["search"] == "accepted"
    want = roc_auc_score(split.shareable_N, np.arange(len(split.train)))
    assert fact["score_auc"] == pytest.approx(want, abs=1e-9)


def test_a_rejected_search_shares_nothing_in_the_arms(runner: RecordingRunner) -> None:
    runner.rejects.add("star")
    study = arms(runner, ["star"], [1], RATIOS)
    assert study.facts["star/ssim"][0]["ratio"] == 0.0 and study.facts["star/ssim"][0]["search"] == "rejected"
    assert study.groups["star/ssim"][0].record["share_rate"] == 0.0


def test_the_ablations_change_one_thing_each(runner: RecordingRunner, split: Split) -> None:
    study = ablations(runner, ["shared_bottom"], [1], RATIOS)
    assert [g.split("/")[1] for g in study.groups][:5] == ["mt_backbone", "ssim", "ssim_r", "ssim_p", "ssim_nk"]
    assert set(study.base_of.values()) == {"shared_bottom/ssim"}
    no_kl = [changes for _, _, changes in runner.searches if "kl_weight" in changes]
    assert no_kl == [{"kl_weight": 0.0, "target_share_rate": None}], "a target would move lambda away from 0"
    searched = {tuple(changes.items()) for _, _, changes in runner.searches}
    assert {(("trunk", "dense"),), (("objective", "joint"),)} < searched, "trunk and objective, one at a time"
    assert {"shared_bottom/ssim_dense", "shared_bottom/joint"} < set(study.groups)
    rates = {g.split("/")[1]: trials[0].record["share_rate"] for g, trials in study.groups.items()}
    assert rates["ssim_r"] == pytest.approx(rates["ssim"], abs=1e-3)
    positives = split.train.label_N.numpy() == 1
    assert any(np.array_equal(m, positives) for *_, m in runner.trained if m is not None)
    assert rates["ssim_nk"] == pytest.approx(0.5, abs=0.01), "its order is used although its threshold is no guide"
    ratios = [rate for *_, rate, mask in runner.trained if mask is not None]
    assert 0.0 not in ratios and 1.0 not in ratios, "without a selection there is nothing to ablate"
    with pytest.raises(TrainingError, match="no value between 0 and 1"):
        ablations(runner, ["shared_bottom"], [1], [0.0, 1.0])


def test_random_rows_are_as_many_and_follow_the_seed() -> None:
    assert random_mask(1_001, 0.3, 1).sum() == 300
    assert np.array_equal(random_mask(50, 0.5, 1), random_mask(50, 0.5, 1))
    assert not np.array_equal(random_mask(50, 0.5, 1), random_mask(50, 0.5, 2))


def test_ties_of_validation_go_to_the_smaller_ratio(runner: RecordingRunner) -> None:
    found = runner.find_shared("shared_bottom", 1)
    assert best_ratio(runner, "shared_bottom", 1, found, [0.75, 0.25]).ratio == 0.25


def test_reusability_is_every_source_in_every_target(runner: RecordingRunner) -> None:
    study = reusability(runner, ["shared_bottom", "star"], ["dcn"], [1], RATIOS)
    assert list(study.groups) == ["dcn/mt_backbone", "dcn/from_shared_bottom", "dcn/from_star"]
    assert [backbone for backbone, *_ in runner.searches] == ["shared_bottom", "star"], "each source searches once"
    assert {model for model, *_ in runner.trained} == {"dcn"}


def test_the_sweep_trains_every_ratio_against_none(runner: RecordingRunner) -> None:
    study = as_one_study(ratio_sweep(runner, ["star"], [1, 2], [0.25, 1.0]))
    assert list(study.groups) == ["star/r=0.00", "star/r=0.25", "star/r=1.00"]
    assert set(study.base_of.values()) == {"star/r=0.00"}
    assert [study.groups[g][0].record["share_rate"] for g in study.groups] == pytest.approx([0, 0.25, 1], abs=0.01)


def test_a_model_without_towers_is_no_backbone(runner: RecordingRunner) -> None:
    with pytest.raises(TrainingError, match="'logistic_regression' has no towers"):
        arms(runner, ["logistic_regression"], [1], RATIOS)


def test_costs_are_in_epochs_of_the_backbone(runner: RecordingRunner) -> None:
    costs = {c.what: c for c in times(runner, ["star"], [1], RATIOS)}
    assert (costs["mt_backbone"].base_epochs, costs["mt_backbone"].overhead_per_epoch) == (2.0, 0.0)
    assert costs["search"].base_epochs == 2.5, "5 s where an epoch takes 2"
    assert costs["search"].seconds_per_epoch == 0.5 and costs["search"].overhead_per_epoch == -0.75
    assert costs["mt_backbone_s"].overhead_per_epoch == pytest.approx(0.5)
    assert costs["ssim"].base_epochs == pytest.approx(2.5, abs=0.01), "its ratio is .5"
    assert costs["finetune"].base_epochs == 4.0 and costs["per_scenario"].base_epochs == 3.0
    assert (costs["ssim"].ratio, costs["ssim"].picked) == (0.5, 0.5)
    assert {w: costs[w].ratio for w in ("mt_backbone", "mt_backbone_s", "search")} == {
        "mt_backbone": 0.0,
        "mt_backbone_s": 1.0,
        "search": None,
    }


def test_reuse_has_a_cost_although_validation_prefers_ratio_0(runner: RecordingRunner) -> None:
    """A rejected search: ssim is mt_backbone then, whose cost is not that of reuse."""
    runner.rejects = {"star"}
    costs = {c.what: c for c in times(runner, ["star"], [1], RATIOS)}
    assert (costs["ssim"].ratio, costs["ssim"].picked) == (0.25, 0.0)
    assert costs["ssim"].seconds == pytest.approx(4.5, abs=0.01) and costs["mt_backbone"].seconds == 4.0
