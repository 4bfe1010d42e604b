"""Train models with several seeds on one split and compare them with a base: python -m jobs.research.compare_models.

Every training is a cell that is kept under --out and never made twice; a command that was cut off goes on where it was.
Writes comparison.csv (every metric, interval and test), comparison.md and comparison.svg there. Tests: DeLong and a
bootstrap over users on the mean over seeds, Mann-Whitney U on the seeds' AUCs; none is corrected for many models.
Forms of one model beside each other: `MODEL/VARIANT: {OPTION: VALUE}` in the --options file is the model with its own
entry's options and these on top, and MODEL/VARIANT then a name for --models and --base (`all` takes none of them).

  python -m jobs.research.compare_models --data movielens_fixed:history=0 --models all --seeds 3 --base shared_bottom \\
      --options jobs/research/movielens_fixed.yaml --out results/movielens_fixed
  python -m jobs.research.compare_models --data movielens_fixed --models optmsm/no_priors,optmsm/no_all --base optmsm \\
      --options jobs/research/ablations.yaml --out results/ablations
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jobs.cli import progress
from jobs.research import plots, tables
from jobs.research.options import add_lab_options, named_base, named_models, open_lab, run_command, seeds_of
from msr_models.experiments.cells import Cell
from msr_models.experiments.comparison import MEAN, Comparison, Line
from msr_models.experiments.lab import Lab
from msr_models.experiments.user_novelty import KNOWN, NEW, known_users, novelty_lines
from schemas.errors import TrainingError

EXTRA = ("parameters", "samples/s", "epochs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    add_lab_options(parser)
    parser.add_argument(
        "--models", default="all", help="all, or names separated by commas (default all); see --options for variants"
    )
    parser.add_argument(
        "--base", default="shared_bottom", help="the model, or variant, that the others are compared with"
    )


def compare(options: argparse.Namespace) -> None:
    """Train what is missing, then write the tables."""
    base = named_base(options.base)
    models = list(dict.fromkeys([base, *named_models(options.models)]))
    lab = open_lab(options, models)
    skip = options.models == "all"
    models, skipped = usable_models(lab, models, skip=skip)
    cells = train_all(lab, models, seeds_of(options), skipped, skip=skip)
    if base not in cells:
        raise TrainingError(f"the base {base!r} cannot be trained: {skipped[base]}; give another --base")
    progress(f"comparing {len(cells)} models by {options.resamples} resamples of the users")
    base_of = dict.fromkeys(cells, base)
    lines = Comparison(lab.split, cells, base_of, resamples=options.resamples).lines()
    lines += novelty_lines(lab.split, cells, base_of, resamples=options.resamples)
    write(options.out, lab, cells, lines, base, skipped)


def usable_models(lab: Lab, models: Sequence[str], *, skip: bool) -> tuple[list[str], dict[str, str]]:
    """(models that these rows can train, why not for the others); nothing is trained yet.

    Raises TrainingError for the first of the others unless `skip`.
    """
    usable, skipped = [], {}
    for model in models:
        try:
            lab.check(model)
        except TrainingError as error:
            if not skip:
                raise
            progress(f"{model} is left out: {error}")
            skipped[model] = str(error)
        else:
            usable.append(model)
    return usable, skipped


def train_all(
    lab: Lab, models: Sequence[str], seeds: Sequence[int], skipped: dict[str, str], *, skip: bool
) -> dict[str, list[Cell]]:
    """Cells by model, seed after seed, so that a table of fewer seeds is there first.

    With `skip` a model that cannot be trained is left out, and `skipped` says why; else its TrainingError is raised.
    """
    lab.expect(len(models) * len(seeds))
    cells: dict[str, list[Cell]] = {model: [] for model in models}
    for seed in seeds:
        for model in list(cells):
            try:
                cells[model].append(lab.train(model, seed))
            except TrainingError as error:
                if not skip:
                    raise
                progress(f"{model} is left out: {error}")
                skipped[model] = str(error)
                del cells[model]
    return cells


def write(
    folder: Path,
    lab: Lab,
    cells: Mapping[str, Sequence[Cell]],
    lines: Sequence[Line],
    base: str,
    skipped: Mapping[str, str],
) -> None:
    """CSV, Markdown and plot."""
    facts = {model: _facts(found) for model, found in cells.items()}
    text = "\n".join(
        [
            f"Test rows of {lab.split.name}, {len(next(iter(cells.values())))} seeds; differences against {base}.\n",
            tables.overview(lines, facts, EXTRA),
            tables.by_scenario(lines, lab.split.scenario_names),
            *(_by_novelty(lab, lines)),
            *(f"Left out: {model}: {why}\n" for model, why in skipped.items()),
        ]
    )
    tables.write_csv(folder / "comparison.csv", lines)
    tables.write_text(folder / "comparison.md", text)
    means = [line for line in lines if line.metric == MEAN and line.mean is not None]
    dots = {line.group: (line.mean, line.low, line.high) for line in means if line.mean is not None}
    picture = plots.bars(dots, title=f"Test AUC on {lab.split.name}", label="mean AUC over scenarios, 95 % over seeds")
    tables.write_text(folder / "comparison.svg", picture)
    print(text, flush=True)
    progress(f"written to {folder}: comparison.csv, comparison.md, comparison.svg")


def _by_novelty(lab: Lab, lines: Sequence[Line]) -> list[str]:
    """AUC of users whom training has seen and of new ones, where there are both."""
    if not any(line.metric == NEW for line in lines):
        return []
    share = 1 - known_users(lab.split).mean()
    return [
        f"New users have no row in training; {share:.1%} of the test rows are theirs.\n",
        tables.by_scenario(lines, [NEW, KNOWN]),
    ]


def _facts(cells: Sequence[Cell]) -> list[str]:
    """Cells of EXTRA: the parameters, the median speed of training and the mean epoch kept."""
    speed = float(np.median([cell.record["samples_per_second"] for cell in cells]))
    epochs = float(np.mean([cell.record["epochs"] for cell in cells]))
    return [f"{cells[0].record['parameters']:,}", f"{speed:,.0f}", f"{epochs:.1f}"]


if __name__ == "__main__":
    run_command(__doc__, add_arguments, compare)
