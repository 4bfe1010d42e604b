"""The arms and ablations of SSIM's tables over any backbone, and the ratio that validation picks (eq. 16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from msr_models.evaluation.metrics import grouped_auc
from msr_models.experiments.runner import ExperimentRunner, Mask
from msr_models.experiments.trials import Trial
from msr_models.experiments.variants import registered_name
from msr_models.models.registry import model_class
from schemas.errors import TrainingError

BASE, SSIM, JOINT, ORACLE = "mt_backbone", "ssim", "joint", "oracle"
PAPERS_OBJECTIVE: Mapping[str, Any] = {"objective": "joint"}
# Random masks must not depend on the stream that draws the initial weights
_RANDOM_MASK = 20_251


@dataclass(kw_only=True)
class Study:
    """Groups of trials to compare.

    groups: name -> one trial per seed; base_of: the group that each is compared with; facts: further columns of each
    trial (ratio, search status), in the order of the trials.
    """

    groups: dict[str, list[Trial]] = field(default_factory=dict)
    base_of: dict[str, str] = field(default_factory=dict)
    facts: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)

    def add(self, group: str, base: str, trial: Trial, **facts: Any) -> None:
        """Append the group's trial of the next seed."""
        self.groups.setdefault(group, []).append(trial)
        self.base_of[group] = base
        self.facts.setdefault(group, []).append({"share_rate": trial.record["share_rate"], **facts})


class Chosen(NamedTuple):
    """The trial with the best ratio on validation, and facts about the search behind its mask."""

    trial: Trial
    ratio: float
    facts: dict[str, Any]


def require_towers(models: Sequence[str]) -> None:
    """Raises TrainingError for a model that cannot share rows across scenarios."""
    for name in models:
        if not model_class(registered_name(name)).has_towers:
            raise TrainingError(
                f"model {name!r} has no towers and cannot share rows across scenarios; choose another backbone"
            )


def arms(runner: ExperimentRunner, backbones: Sequence[str], seeds: Sequence[int], ratios: Sequence[float]) -> Study:
    """Groups `backbone/arm`, all compared with mt_backbone.

    Arms: st_backbone (one network for all rows), per_scenario (one network each), finetune, mt_backbone (no row
    shared), mt_backbone_s (every row shared), ssim (source and target are the same backbone), joint (ssim with the
    paper's objective, eq. 15) and, if the truth is known, oracle. A rejected search shares nothing, as in the pipeline.
    """
    require_towers(backbones)
    truth = runner.split.shareable_N
    grid = sorted({0.0, 1.0, *ratios})
    runner.expect(len(backbones) * len(seeds) * (8 + 2 * len(grid) + (truth is not None)))
    study = Study()
    for seed in seeds:
        for name in backbones:
            base = f"{name}/{BASE}"
            study.add(base, base, runner.train(name, seed))
            study.add(f"{name}/mt_backbone_s", base, runner.train(name, seed, shared_N=_every(runner)))
            study.add(f"{name}/st_backbone", base, runner.train(name, seed, "pooled"))
            study.add(f"{name}/finetune", base, runner.train(name, seed, "finetune"))
            study.add(f"{name}/per_scenario", base, runner.train(name, seed, "per_scenario"))
            for arm, changes in ((SSIM, {}), (JOINT, PAPERS_OBJECTIVE)):
                chosen = best_ratio(runner, name, seed, runner.find_shared(name, seed, **changes), grid)
                study.add(f"{name}/{arm}", base, chosen.trial, ratio=chosen.ratio, **chosen.facts)
            if truth is not None:
                study.add(f"{name}/{ORACLE}", base, runner.train(name, seed, shared_N=truth))
    return study


def ablations(
    runner: ExperimentRunner, backbones: Sequence[str], seeds: Sequence[int], ratios: Sequence[float]
) -> Study:
    """Groups `backbone/variant`, compared with the backbone's ssim.

    Variants: mt_backbone, ssim_r (as many random rows), ssim_p (positives), ssim_nk (no KL term), ssim_nd (no
    scenario-specific heads), ssim_dense (dense trunk, eq. 8) and joint (the paper's objective, eq. 15, whose trunk is
    dense too, so that trunk and objective can be told apart). The ablation is about the order of rows: every search's
    order is cut at the ratio between 0 and 1 (exclusive) that is best on validation, even if the search was rejected,
    as it may be without the KL term, which alone makes a gate share.
    """
    require_towers(backbones)
    between = _between(ratios)
    variants: dict[str, Mapping[str, Any]] = {
        "ssim_nk": {"kl_weight": 0.0, "target_share_rate": None},
        "ssim_nd": {"scenario_heads": False},
        "ssim_dense": {"trunk": "dense"},
        JOINT: PAPERS_OBJECTIVE,
    }
    runner.expect(len(backbones) * len(seeds) * (3 + (1 + len(variants)) * (1 + len(between))))
    study = Study()
    for seed in seeds:
        for name in backbones:
            base = f"{name}/{SSIM}"
            study.add(f"{name}/{BASE}", base, runner.train(name, seed))
            chosen = best_ratio(runner, name, seed, runner.find_shared(name, seed), between, rejected_too=True)
            study.add(base, base, chosen.trial, ratio=chosen.ratio, **chosen.facts)
            random_N = random_mask(len(runner.split.train), chosen.trial.record["share_rate"], seed)
            study.add(f"{name}/ssim_r", base, runner.train(name, seed, shared_N=random_N))
            positive_N = runner.split.train.label_N.cpu().numpy() == 1
            study.add(f"{name}/ssim_p", base, runner.train(name, seed, shared_N=positive_N))
            for variant, changes in variants.items():
                found = runner.find_shared(name, seed, **changes)
                other = best_ratio(runner, name, seed, found, between, rejected_too=True)
                study.add(f"{name}/{variant}", base, other.trial, ratio=other.ratio, **other.facts)
    return study


def best_ratio(
    runner: ExperimentRunner,
    target: str,
    seed: int,
    found: Trial,
    ratios: Sequence[float],
    *,
    rejected_too: bool = False,
) -> Chosen:
    """The target trained with the ratio of a search's rows that is best on validation (eq. 16; of ties the smallest).

    A rejected search is not used (ratio 0) unless `rejected_too`.
    """
    if found.record["status"] != "accepted" and not rejected_too:
        ratios = [0.0]
    trials = {ratio: runner.train(target, seed, shared_N=runner.share(found, ratio)) for ratio in ratios}
    best = max(trials, key=lambda ratio: (_validation(trials[ratio]), -ratio))
    facts = {"search": found.record["status"], "search_reason": found.record["reason"]}
    if runner.split.shareable_N is not None:
        facts["score_auc"] = score_auc(found.array("probs"), runner.split.shareable_N)
    return Chosen(trials[best], best, facts)


def score_auc(probs_N: Any, shareable_N: Mask) -> float:
    """AUC of a search's scores for predicting that a row is shareable."""
    nothing = np.zeros(len(shareable_N), dtype=np.int64)
    return float(grouped_auc(probs_N, shareable_N, nothing, 1).auc_G[0])


def random_mask(rows: int, rate: float, seed: int) -> Mask:
    """Exactly round(rate * rows) random rows, which depend on the seed."""
    mask = np.zeros(rows, dtype=np.bool_)
    mask[np.random.default_rng([_RANDOM_MASK, seed]).permutation(rows)[: round(rate * rows)]] = True
    return mask


def _validation(trial: Trial) -> float:
    auc: float | None = trial.record["validation_auc"]
    if auc is None:
        raise TrainingError("the validation rows have one class, so no ratio can be chosen; use more validation rows")
    return auc


def _every(runner: ExperimentRunner) -> Mask:
    return np.ones(len(runner.split.train), dtype=np.bool_)


def _between(ratios: Sequence[float]) -> list[float]:
    found = sorted({r for r in ratios if 0 < r < 1})
    if not found:
        raise TrainingError("--ratios has no value between 0 and 1; give some, for example 0.1,0.3,0.5")
    return found
