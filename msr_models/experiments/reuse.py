"""Reusability of shared sets: the matrix of source x target models, and the sweep over ratios."""

from __future__ import annotations

from collections.abc import Sequence

from msr_models.experiments.arms import BASE, Study, best_ratio, require_towers
from msr_models.experiments.runner import ExperimentRunner

SWEEP = (0.0, 0.05, *(n / 10 for n in range(1, 11)))


def reusability(
    runner: ExperimentRunner,
    sources: Sequence[str],
    targets: Sequence[str],
    seeds: Sequence[int],
    ratios: Sequence[float],
) -> Study:
    """Groups `target/from_source`, each compared with the target's mt_backbone: the target trained with the rows shared
    by a search with the source, at the best ratio on validation (eq. 16).
    """
    require_towers([*sources, *targets])
    grid = sorted({0.0, 1.0, *ratios})
    runner.expect(len(seeds) * (len(sources) + len(targets) * (1 + len(sources) * len(grid))))
    study = Study()
    for seed in seeds:
        found = {source: runner.find_shared(source, seed) for source in sources}
        for target in targets:
            base = f"{target}/{BASE}"
            study.add(base, base, runner.train(target, seed))
            for source in sources:
                chosen = best_ratio(runner, target, seed, found[source], grid)
                study.add(f"{target}/from_{source}", base, chosen.trial, ratio=chosen.ratio, **chosen.facts)
    return study


def ratio_sweep(
    runner: ExperimentRunner, backbones: Sequence[str], seeds: Sequence[int], ratios: Sequence[float] = SWEEP
) -> dict[float, Study]:
    """Per ratio a study of `backbone` groups: the backbone trained with this share of its own search's rows, also of a
    rejected search. Ratio 0 is mt_backbone, ratio 1 mt_backbone_s.
    """
    require_towers(backbones)
    grid = sorted({0.0, *ratios})
    runner.expect(len(seeds) * len(backbones) * (1 + len(grid)))
    studies = {ratio: Study() for ratio in grid}
    for seed in seeds:
        for name in backbones:
            found = runner.find_shared(name, seed)
            for ratio in grid:
                trial = runner.train(name, seed, shared_N=runner.share(found, ratio))
                studies[ratio].add(name, name, trial, ratio=ratio, validation_auc=trial.record["validation_auc"])
    return studies


def as_one_study(studies: dict[float, Study]) -> Study:
    """Groups `backbone/r=0.30`, each compared with the same backbone's r = 0."""
    whole = Study()
    for ratio, study in studies.items():
        for name, trials in study.groups.items():
            for trial, facts in zip(trials, study.facts[name], strict=True):
                whole.add(sweep_group(name, ratio), sweep_group(name, 0.0), trial, **facts)
    return whole


def sweep_group(backbone: str, ratio: float) -> str:
    """The group of a backbone at a ratio."""
    return f"{backbone}/r={ratio:.2f}"
