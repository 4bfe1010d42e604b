"""Experiments on properties of shared rows and on costs, with their own tables and plots."""

from __future__ import annotations

import numpy as np

from jobs.research import plots, tables
from jobs.research.studies import Request
from lake.files import write_text
from msr_models.experiments.shared_rows import Projection, project, seen_elsewhere
from msr_models.experiments.times import Cost, times
from msr_models.experiments.variants import file_name
from schemas.text import markdown_table

KINDS = ("shared", "unshared", "random")


def write_features(request: Request) -> str:
    """Per field, the fraction of features that other scenarios have too, of shared, other and random rows."""
    records = seen_elsewhere(request.runner, request.backbones, request.seeds, request.ratios)
    tables.write_csv(request.out / "features.csv", records)
    rows: list[list[str]] = []
    series: dict[tuple[str, str], list[plots.Point]] = {}
    places = dict.fromkeys((r.backbone, r.field, r.ratio) for r in sorted(records, key=lambda r: r.seed))
    for name, field, ratio in places:
        mine = [r for r in records if (r.backbone, r.field, r.ratio) == (name, field, ratio)]
        means = [tables.mean([getattr(r, kind) for r in mine]) for kind in KINDS]
        rows.append([name, field, f"{ratio:g}", *(tables.number(m) for m in means)])
        for kind, mean in zip(KINDS, means, strict=True):
            if field == "all" and mean is not None:
                series.setdefault((name, kind), []).append((ratio, mean))
    title = "Share of features that another scenario has too"
    picture = plots.curves(series, title=title, x_label="ratio", panels=request.backbones)
    write_text(request.out / "features.svg", picture)
    return markdown_table(["source", "field", "ratio", "shared rows", "other rows", "random rows"], rows)


def write_projection(request: Request) -> str:
    """Shared and other rows of the first seed's search in two principal components; a plot per source and ratio."""
    rows, records = [], []
    for name in request.backbones:
        for ratio in request.ratios:
            found = project(request.runner, name, request.seeds[0], ratio)
            measured = (found.explained, found.scenario_share_shared, found.scenario_share_unshared)
            rows.append([name, f"{ratio:g}", *(tables.number(v) for v in measured)])
            points = _points(found, request.runner.split.scenario_names)
            for kind, of_scenario in points.items():
                for scenario, places in of_scenario.items():
                    same = {"backbone": name, "ratio": ratio, "rows": kind, "scenario": scenario}
                    records += [{**same, "x": x, "y": y} for x, y in places]
            picture = plots.scatter(points, title=f"{name}, ratio {ratio:g}: rows by two principal components")
            write_text(request.out / f"projection-{file_name(name)}-{ratio:g}.svg", picture)
    tables.write_csv(request.out / "projection.csv", records)
    columns = ["source", "ratio", "variance shown", "variance between scenarios: shared rows", "other rows"]
    return markdown_table(columns, rows)


def _points(found: Projection, names: tuple[str, ...]) -> dict[str, dict[str, list[plots.Point]]]:
    """Kind of rows -> scenario -> points."""
    kinds = {"shared rows": found.shared_M, "other rows": ~found.shared_M}
    return {
        kind: {
            name: [(x, y) for x, y in found.points_M2[is_kind_M & (found.scenario_M == k)].tolist()]
            for k, name in enumerate(names)
        }
        for kind, is_kind_M in kinds.items()
    }


def write_times(request: Request) -> str:
    """Seconds, epochs and cost in epochs of MT-Backbone, with the ratio of the trial; medians over seeds."""
    records = times(request.runner, request.backbones, request.seeds, request.ratios)
    tables.write_csv(request.out / "times.csv", records)
    rows: list[list[str]] = []
    dots: dict[str, plots.Bar] = {}
    columns = ("seconds", "epochs", "seconds_per_epoch", "base_epochs", "overhead_per_epoch")
    for name, what in dict.fromkeys((r.backbone, r.what) for r in records):
        mine = [r for r in records if (r.backbone, r.what) == (name, what)]
        seconds, epochs, per_epoch, base_epochs, overhead = (
            float(np.median([getattr(r, column) for r in mine])) for column in columns
        )
        whole = [r.base_epochs for r in mine]
        dots[f"{name} {what}"] = (base_epochs, min(whole), max(whole))
        shown = (f"{seconds:.1f}", f"{epochs:.1f}", f"{per_epoch:.2f}", f"{base_epochs:.1f}", f"{overhead:+.0%}")
        rows.append([name, what, ", ".join(dict.fromkeys(map(_ratio, mine))), *shown])
    label = "whole run, in epochs of mt_backbone; least and most of the seeds"
    picture = plots.bars(dots, title="Cost of search, reuse and baselines", label=label, digits=1)
    write_text(request.out / "times.svg", picture)
    head = ["backbone", "what", "ratio", "seconds", "epochs", "s / epoch"]
    return markdown_table([*head, "in epochs of mt_backbone", "per epoch, relative to mt_backbone"], rows)


def _ratio(cost: Cost) -> str:
    if cost.ratio is None:
        return "-"
    return f"{cost.ratio:g}" + (" (0 is best on validation)" if cost.picked == 0 else "")
