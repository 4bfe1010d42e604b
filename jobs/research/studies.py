"""Experiments whose outcome is a study: groups of trainings that are compared with a base."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.cli import progress
from jobs.research import plots, tables
from msr_models.experiments.arms import Study, ablations, arms
from msr_models.experiments.comparison import MEAN, Comparison, Line
from msr_models.experiments.lab import Lab
from msr_models.experiments.reuse import as_one_study, ratio_sweep, reusability, sweep_group
from schemas.text import markdown_table

FACTS = ("share rate", "ratio", "search", "AUC of scores")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What an experiment is run with."""

    lab: Lab
    options: argparse.Namespace
    backbones: list[str]
    targets: list[str]
    seeds: list[int]
    ratios: list[float]


def write_arms(asked: Asked) -> str:
    return _study(asked, arms(asked.lab, asked.backbones, asked.seeds, asked.ratios))


def write_ablations(asked: Asked) -> str:
    return _study(asked, ablations(asked.lab, asked.backbones, asked.seeds, asked.ratios))


def write_reusability(asked: Asked) -> str:
    study = reusability(asked.lab, asked.backbones, asked.targets, asked.seeds, asked.ratios)
    lines = _lines(asked, study)
    gains = {line.group: line for line in lines if line.metric == MEAN}
    rows = [
        [target, *(_gain(gains[f"{target}/from_{source}"]) for source in asked.backbones)] for target in asked.targets
    ]
    matrix = markdown_table(["mean AUC against mt_backbone: target", *asked.backbones], rows)
    return matrix + "\n" + _written(asked, study, lines)


def write_ratios(asked: Asked) -> str:
    studies = ratio_sweep(asked.lab, asked.backbones, asked.seeds, asked.ratios)
    study = as_one_study(studies)
    lines = _lines(asked, study)
    by = {(line.group, line.metric): line.mean for line in lines}
    panels = [*asked.lab.split.scenario_names, MEAN]
    series: dict[tuple[str, str], list[plots.Point]] = {}
    for panel in panels:
        for name in asked.backbones:
            points = [(ratio, by[sweep_group(name, ratio), panel]) for ratio in studies]
            series[panel, name] = [(ratio, auc) for ratio, auc in points if auc is not None]
    picture = plots.curves(series, title="Test AUC over the ratio of shared rows", x_label="ratio", panels=panels)
    return _written(asked, study, lines, picture)


def _study(asked: Asked, study: Study) -> str:
    return _written(asked, study, _lines(asked, study))


def _lines(asked: Asked, study: Study) -> list[Line]:
    progress(f"comparing {len(study.groups)} groups by {asked.options.resamples} resamples of the users")
    comparison = Comparison(asked.lab.split, study.groups, study.base_of, resamples=asked.options.resamples)
    return comparison.lines()


def _written(asked: Asked, study: Study, lines: Sequence[Line], picture: str | None = None) -> str:
    """The tables of a study; CSV and plot are written."""
    folder, name = asked.options.out, asked.options.experiment
    tables.write_csv(folder / f"{name}.csv", lines)
    tables.write_csv(folder / f"{name}_cells.csv", _cells(study))
    if picture is None:
        gains = [line for line in lines if line.metric == MEAN and line.difference is not None]
        dots = {g.group: (g.difference, g.users_low, g.users_high) for g in gains if g.difference is not None}
        label = "difference of mean AUC to its base, 95 % over users"
        picture = plots.bars(dots, title=f"{name} on {asked.lab.split.name}", label=label, cut=0.0)
    tables.write_text(folder / f"{name}.svg", picture)
    facts = {group: _facts(study, group) for group in study.groups}
    overview = tables.overview(lines, facts, FACTS)
    return overview + "\n" + tables.by_scenario(lines, asked.lab.split.scenario_names)


def _cells(study: Study) -> list[Mapping[str, Any]]:
    """A record per cell: its group and seed, what else is known of it, its AUC per scenario, its file."""
    records: list[Mapping[str, Any]] = []
    for group, cells in study.groups.items():
        for cell, facts in zip(cells, study.facts[group], strict=True):
            test = cell.record["test"]
            aucs = {f"auc_{name}": test[name]["auc"] for name in test}
            mean = {"mean_auc": test["all"]["mean_scenario_auc"], "validation_auc": cell.record["validation_auc"]}
            names = {"group": group, "seed": cell.record["seed"]}
            records.append({**names, **facts, **mean, **aucs, "cell": cell.arrays_path.stem})
    return records


def _facts(study: Study, group: str) -> list[str]:
    """Cells of FACTS: of all seeds, or what differs between them."""
    facts = study.facts[group]
    rates = tables.mean([f["share_rate"] for f in facts])
    ratios = ", ".join(f"{f['ratio']:g}" for f in facts if "ratio" in f)
    status = ", ".join(dict.fromkeys(str(f["search"]) for f in facts if "search" in f))
    scores = tables.mean([f["score_auc"] for f in facts if "score_auc" in f])
    return [tables.number(rates, 3), ratios or "-", status or "-", tables.number(scores, 3)]


def _gain(line: Line) -> str:
    star = "*" if line.p_users is not None and line.p_users < tables.SIGNIFICANT else ""
    return tables.number(line.difference, signed=True) + star
