"""Experiments that compare groups of trials with a base."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.research import plots, tables
from lake.files import write_text
from msr_models.experiments.arms import Study, ablations, arms
from msr_models.experiments.comparison import MEAN, Comparison, Line
from msr_models.experiments.reuse import as_one_study, ratio_sweep, reusability, sweep_group
from msr_models.experiments.runner import ExperimentRunner
from schemas.text import markdown_table

log = logging.getLogger(__name__)

FACTS = ("share rate", "ratio", "search", "AUC of scores")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Inputs of an experiment. out: folder of its tables."""

    runner: ExperimentRunner
    name: str
    out: Path
    resamples: int
    backbones: list[str]
    targets: list[str]
    seeds: list[int]
    ratios: list[float]


def write_arms(request: Request) -> str:
    return _study(request, arms(request.runner, request.backbones, request.seeds, request.ratios))


def write_ablations(request: Request) -> str:
    return _study(request, ablations(request.runner, request.backbones, request.seeds, request.ratios))


def write_reusability(request: Request) -> str:
    study = reusability(request.runner, request.backbones, request.targets, request.seeds, request.ratios)
    lines = _lines(request, study)
    gains = {line.group: line for line in lines if line.metric == MEAN}
    rows = [
        [target, *(_gain(gains[f"{target}/from_{source}"]) for source in request.backbones)]
        for target in request.targets
    ]
    matrix = markdown_table(["mean AUC relative to mt_backbone: target", *request.backbones], rows)
    return matrix + "\n" + _written(request, study, lines)


def write_ratios(request: Request) -> str:
    studies = ratio_sweep(request.runner, request.backbones, request.seeds, request.ratios)
    study = as_one_study(studies)
    lines = _lines(request, study)
    by = {(line.group, line.metric): line.mean for line in lines}
    panels = [*request.runner.split.scenario_names, MEAN]
    series: dict[tuple[str, str], list[plots.Point]] = {}
    for panel in panels:
        for name in request.backbones:
            points = [(ratio, by[sweep_group(name, ratio), panel]) for ratio in studies]
            series[panel, name] = [(ratio, auc) for ratio, auc in points if auc is not None]
    picture = plots.curves(series, title="Test AUC over the ratio of shared rows", x_label="ratio", panels=panels)
    return _written(request, study, lines, picture)


def _study(request: Request, study: Study) -> str:
    return _written(request, study, _lines(request, study))


def _lines(request: Request, study: Study) -> list[Line]:
    log.info(f"comparing {len(study.groups)} groups by {request.resamples} resamples of the users")
    comparison = Comparison(request.runner.split, study.groups, study.base_of, resamples=request.resamples)
    return comparison.lines()


def _written(request: Request, study: Study, lines: Sequence[Line], picture: str | None = None) -> str:
    """Write CSV and plot of a study; returns its tables."""
    folder, name = request.out, request.name
    tables.write_csv(folder / f"{name}.csv", lines)
    tables.write_csv(folder / f"{name}_trials.csv", _trials(study))
    if picture is None:
        gains = [line for line in lines if line.metric == MEAN and line.difference is not None]
        dots = {g.group: (g.difference, g.users_low, g.users_high) for g in gains if g.difference is not None}
        label = "difference of mean AUC to its base, 95 % over users"
        picture = plots.bars(dots, title=f"{name} on {request.runner.split.name}", label=label, cut=0.0)
    write_text(folder / f"{name}.svg", picture)
    facts = {group: _facts(study, group) for group in study.groups}
    overview = tables.overview(lines, facts, FACTS)
    return overview + "\n" + tables.by_scenario(lines, request.runner.split.scenario_names)


def _trials(study: Study) -> list[Mapping[str, Any]]:
    """One record per trial: group, seed, facts, AUCs and file name."""
    records: list[Mapping[str, Any]] = []
    for group, trials in study.groups.items():
        for trial, facts in zip(trials, study.facts[group], strict=True):
            test = trial.record["test"]
            aucs = {f"auc_{name}": test[name]["auc"] for name in test}
            mean = {"mean_auc": test["all"]["mean_scenario_auc"], "validation_auc": trial.record["validation_auc"]}
            names = {"group": group, "seed": trial.record["seed"]}
            records.append({**names, **facts, **mean, **aucs, "trial": trial.arrays_path.stem})
    return records


def _facts(study: Study, group: str) -> list[str]:
    """Cells of FACTS: means over the seeds, or the values of each."""
    facts = study.facts[group]
    rates = tables.mean([f["share_rate"] for f in facts])
    ratios = ", ".join(f"{f['ratio']:g}" for f in facts if "ratio" in f)
    status = ", ".join(dict.fromkeys(str(f["search"]) for f in facts if "search" in f))
    scores = tables.mean([f["score_auc"] for f in facts if "score_auc" in f])
    return [tables.number(rates, 3), ratios or "-", status or "-", tables.number(scores, 3)]


def _gain(line: Line) -> str:
    star = "*" if line.p_users is not None and line.p_users < tables.SIGNIFICANT else ""
    return tables.number(line.difference, signed=True) + star
