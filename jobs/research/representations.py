"""Draw where rows lie in a network, by t-SNE, and say it in numbers.

OptMSM: representations of validation rows in their own scenario with and without the orthogonality constraint (Tang et
al. 2023, fig. 5), the silhouette of the scenarios and the mean cosine between scenarios. SSIM: shared and other rows by
the vectors that the selector reads, and the silhouette of the scenarios in each.

Everything trained is a trial, cached under --out. Writes representations.md, representations.csv, and
representations-optmsm.svg and representations-shared.svg.

  python -m jobs.research.representations --data planted:seed=0 --seeds 3 --out results/representations
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from jobs.cli import run_command
from jobs.research import plots, tables
from jobs.research.options import TrialOptions, epochs_logged, named_models, open_runner
from lake.files import write_text
from msr_models.experiments.representations import Cloud, cloud_of, representations, shared_and_other, silhouette
from msr_models.experiments.runner import ExperimentRunner
from schemas.text import markdown_table

log = logging.getLogger(__name__)

FORMS: Mapping[str, Mapping[str, Any]] = {"constraint": {}, "no constraint": {"constraint": False}}


class RepresentationOptions(TrialOptions):
    model: str = Field(default="optmsm", description="an OptMSM, or a variant of it; none: only SSIM's rows")
    source: str = Field(default="shared_bottom", description="backbone of the search; none: only OptMSM")
    ratio: float = Field(default=0.3, gt=0, lt=1, description="share of the rows that is shared (eq. 16)")
    rows: int = Field(default=1500, ge=50, description="rows that are drawn, evenly spaced")


def draw(options: RepresentationOptions) -> None:
    """Train what is missing, then write numbers and pictures."""
    names = [name for name in (options.model, options.source) if name != "none"]
    runner = open_runner(options, named_models(",".join(names)))
    records: list[Mapping[str, Any]] = []
    with epochs_logged(options.verbose):
        if options.model != "none":
            records += _optmsm(options, runner)
        if options.source != "none":
            records += _shared(options, runner)
    tables.write_csv(options.out / "representations.csv", records)
    rows = [
        [str(r["what"]), str(r["seed"]), tables.number(r["silhouette"], 3), tables.number(r.get("cosine"), 3)]
        for r in records
    ]
    head = ["rows", "seed", "silhouette of the scenarios", "mean cosine between scenarios"]
    text = f"{runner.split.name}, {options.rows} rows\n\n{markdown_table(head, rows)}"
    write_text(options.out / "representations.md", text)
    print(text, flush=True)


def _optmsm(options: RepresentationOptions, runner: ExperimentRunner) -> list[Mapping[str, Any]]:
    """One record per form and seed; the picture is of the first seed."""
    base = dict(runner.options.get(options.model, {}))
    variants = {form: f"{options.model}/{form.replace(' ', '_')}" for form in FORMS}
    runner.options = {**runner.options, **{variants[form]: {**base, **own} for form, own in FORMS.items()}}
    records: list[Mapping[str, Any]] = []
    clouds = []
    for form, variant in variants.items():
        for seed in options.seed_numbers:
            trial = representations(runner, variant, seed, options.rows)
            if seed == options.seed_numbers[0]:
                clouds.append(cloud_of(form, trial))
            apart = silhouette(trial.array("own"), trial.array("scenario"))
            records.append(
                {
                    "what": f"{options.model}, {form}",
                    "seed": seed,
                    "silhouette": apart,
                    "cosine": trial.record["cosine"],
                    "validation_auc": trial.record["validation_auc"],
                }
            )
    _picture(options, runner, clouds, "optmsm", f"{options.model}: representations of rows in their scenario")
    return records


def _shared(options: RepresentationOptions, runner: ExperimentRunner) -> list[Mapping[str, Any]]:
    records: list[Mapping[str, Any]] = []
    for seed in options.seed_numbers:
        clouds = shared_and_other(runner, options.source, seed, options.ratio, options.rows)
        records += [{"what": cloud.name, "seed": seed, "silhouette": cloud.silhouette} for cloud in clouds]
        if seed == options.seed_numbers[0]:
            _picture(options, runner, clouds, "shared", f"{options.source}: shared and other rows")
    return records


def _picture(
    options: RepresentationOptions, runner: ExperimentRunner, clouds: Sequence[Cloud], name: str, title: str
) -> None:
    groups = {
        cloud.name: {
            scenario: [(x, y) for x, y in cloud.points_M2[cloud.scenario_M == k].tolist()]
            for k, scenario in enumerate(runner.split.scenario_names)
        }
        for cloud in clouds
    }
    write_text(options.out / f"representations-{name}.svg", plots.scatter(groups, title=f"{title} (t-SNE)"))


if __name__ == "__main__":
    run_command(__doc__, draw, RepresentationOptions)
