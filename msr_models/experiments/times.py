"""Cost of search, reuse and baselines, in seconds and in epochs of MT-Backbone.

Seconds are read from the trials' records: compare only trials that ran on one otherwise idle machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msr_models.experiments.arms import BASE, best_ratio, require_towers
from msr_models.experiments.runner import ExperimentRunner
from msr_models.experiments.trials import Trial


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Cost of one trial.

    what: an arm, `search`, or `ssim` (only its reuse); epochs: passes over the training rows, including those before
    early stopping; base_epochs: seconds relative to one epoch of the backbone's mt_backbone.

    ratio: of shared rows in this training; picked: the best one on validation. They differ if 0 is the best: that is
    mt_backbone, so the smallest other ratio is measured instead.
    """

    backbone: str
    seed: int
    what: str
    seconds: float
    epochs: float
    seconds_per_epoch: float
    base_epochs: float
    overhead_per_epoch: float
    ratio: float | None = None
    picked: float | None = None


def times(
    runner: ExperimentRunner, backbones: Sequence[str], seeds: Sequence[int], ratios: Sequence[float]
) -> list[Cost]:
    """One record per backbone, seed and arm. A search includes its warm-up, its gate and the scores of all rows."""
    require_towers(backbones)
    grid = sorted({0.0, 1.0, *ratios})
    runner.expect(len(backbones) * len(seeds) * (8 + len(grid)))
    records = []
    for seed in seeds:
        for name in backbones:
            base, found = runner.train(name, seed), runner.find_shared(name, seed)
            picked = best_ratio(runner, name, seed, found, grid).ratio
            priced = picked or grid[1]
            ratios_of = {BASE: (0.0, None), "ssim": (priced, picked), "mt_backbone_s": (1.0, None)}
            arms: dict[str, Trial] = {
                BASE: base,
                "st_backbone": runner.train(name, seed, "pooled"),
                "finetune": runner.train(name, seed, "finetune"),
                "per_scenario": runner.train(name, seed, "per_scenario"),
                "search": found,
                "ssim": best_ratio(runner, name, seed, found, [priced], rejected_too=True).trial,
                "mt_backbone_s": best_ratio(runner, name, seed, found, [1.0], rejected_too=True).trial,
            }
            per_epoch = base.record["seconds"] / base.record["epochs_run"]
            for what, trial in arms.items():
                ratio, took = ratios_of.get(what, (None, None))
                seconds, epochs = trial.record["seconds"], trial.record["epochs_run"]
                records.append(
                    Cost(
                        backbone=name,
                        seed=seed,
                        what=what,
                        seconds=seconds,
                        epochs=epochs,
                        seconds_per_epoch=seconds / epochs,
                        base_epochs=seconds / per_epoch,
                        overhead_per_epoch=seconds / epochs / per_epoch - 1.0,
                        ratio=ratio,
                        picked=took,
                    )
                )
    return records
