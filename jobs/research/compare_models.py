"""Train models with several seeds on one split and compare them with a base.

Every training is a trial, cached under --out; an interrupted command resumes where it stopped. Writes comparison.csv
(every metric, interval and test), comparison.md and comparison.svg there. Tests: DeLong and a bootstrap over users on
the mean over seeds, Mann-Whitney U on the seeds' AUCs; none is corrected for multiple comparisons.

To compare variants of a model, add `MODEL/VARIANT: {OPTION: VALUE}` to the --options file (a variant inherits the
options of MODEL) and name them in --models or --base; `all` includes no variants.

  python -m jobs.research.compare_models --data movielens_fixed:history=0 --models all --seeds 3 --base shared_bottom \\
      --options jobs/research/movielens_fixed.yaml --out results/movielens_fixed
--floors boosted_trees adds gradient-boosted trees on the same ids (scikit-learn). --against BASE,BASE adds a table of
every model's gains over these, with intervals and costs (worth.md).

  python -m jobs.research.compare_models --data movielens_fixed --models optmsm/no_priors,optmsm/no_all --base optmsm \\
      --options jobs/research/ablations.yaml --out results/ablations
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from jobs.cli import run_command
from jobs.research import plots, tables
from jobs.research.options import (
    RunnerOptions,
    epochs_logged,
    named_base,
    named_models,
    open_runner,
    usable_models,
)
from jobs.research.worth import worth
from lake.files import write_text
from msr_models.experiments.boosted_trees import BOOSTED_TREES, train_boosted_trees
from msr_models.experiments.comparison import MEAN, Comparison, Line
from msr_models.experiments.runner import ExperimentRunner
from msr_models.experiments.trials import Trial
from msr_models.experiments.user_novelty import KNOWN, NEW, known_users, novelty_lines
from schemas.errors import TrainingError

log = logging.getLogger(__name__)

EXTRA = ("parameters", "samples/s", "epochs")


class CompareOptions(RunnerOptions):
    models: str = Field(default="all", description="all, or names separated by commas; see --options for variants")
    base: str = Field(default="shared_bottom", description="model or variant to compare the others with")
    floors: Literal["none", "boosted_trees"] = Field(
        default="none", description="boosted_trees: gradient-boosted trees on the same ids too, of every seed"
    )
    against: str = Field(
        default="",
        title="NAMES",
        description="also write gains over these, with costs; models or boosted_trees",
    )


def compare(options: CompareOptions) -> None:
    """Run the missing trials, then write the tables."""
    base = named_base(options.base)
    models = list(dict.fromkeys([base, *named_models(options.models)]))
    runner = open_runner(options, models)
    skip = options.models == "all"
    models, skipped = usable_models(runner, models, skip=skip)
    with epochs_logged(options.verbose):
        trials = train_all(runner, models, options.seed_numbers, skipped, skip=skip)
    if base not in trials:
        raise TrainingError(f"the base {base!r} cannot be trained: {skipped[base]}; give another --base")
    if options.floors == BOOSTED_TREES:
        trials[BOOSTED_TREES] = [train_boosted_trees(runner, seed) for seed in options.seed_numbers]
    against = bases_of(options.against, list(trials))
    log.info(f"comparing {len(trials)} models by {options.resamples} resamples of the users")
    base_of = dict.fromkeys(trials, base)
    comparison = Comparison(runner.split, trials, base_of, resamples=options.resamples)
    lines = comparison.lines()
    lines += novelty_lines(runner.split, trials, base_of, resamples=options.resamples)
    write(options.out, runner, trials, lines, base, skipped)
    if against:
        write_worth(options.out, comparison, against, trials)


def train_all(
    runner: ExperimentRunner, models: Sequence[str], seeds: Sequence[int], skipped: dict[str, str], *, skip: bool
) -> dict[str, list[Trial]]:
    """Trials by model. Seeds are the outer loop, so that an interrupted run has all models with fewer seeds.

    With `skip`, `skipped` gets the models that cannot be trained and why; otherwise their TrainingError is raised.
    """
    runner.expect(len(models) * len(seeds))
    trials: dict[str, list[Trial]] = {model: [] for model in models}
    for seed in seeds:
        for model in list(trials):
            try:
                trials[model].append(runner.train(model, seed))
            except TrainingError as error:
                if not skip:
                    raise
                log.info(f"{model} is skipped: {error}")
                skipped[model] = str(error)
                del trials[model]
    return trials


def bases_of(text: str, groups: Sequence[str]) -> list[str]:
    """The names of --against. Raises TrainingError for one that is not compared."""
    names = list(dict.fromkeys(filter(None, text.split(","))))
    if unknown := [name for name in names if name not in groups]:
        raise TrainingError(f"--against {unknown[0]!r} is not compared; give one of {', '.join(groups)}")
    return names


def write_worth(
    folder: Path, comparison: Comparison, bases: Sequence[str], trials: Mapping[str, Sequence[Trial]]
) -> None:
    """worth.md and worth.csv."""
    text, lines = worth(comparison, bases, trials)
    tables.write_csv(folder / "worth.csv", lines)
    write_text(folder / "worth.md", text)
    print(text, flush=True)


def write(
    folder: Path,
    runner: ExperimentRunner,
    trials: Mapping[str, Sequence[Trial]],
    lines: Sequence[Line],
    base: str,
    skipped: Mapping[str, str],
) -> None:
    name, facts = runner.split.name, {model: _facts(found) for model, found in trials.items()}
    text = "\n".join(
        [
            f"Test rows of {name}, {len(next(iter(trials.values())))} seeds; differences relative to {base}; "
            f"epochs chosen by validation {runner.trainer.select_on}.\n",
            tables.overview(lines, facts, EXTRA),
            tables.by_scenario(lines, runner.split.scenario_names),
            *(_by_novelty(runner, lines)),
            *(f"Skipped: {model}: {why}\n" for model, why in skipped.items()),
        ]
    )
    tables.write_csv(folder / "comparison.csv", lines)
    write_text(folder / "comparison.md", text)
    means = [line for line in lines if line.metric == MEAN and line.mean is not None]
    dots = {line.group: (line.mean, line.low, line.high) for line in means if line.mean is not None}
    picture = plots.bars(dots, title=f"Test AUC on {name}", label="mean AUC over scenarios, 95 % over seeds")
    write_text(folder / "comparison.svg", picture)
    print(text, flush=True)
    log.info(f"written to {folder}: comparison.csv, comparison.md, comparison.svg")


def _by_novelty(runner: ExperimentRunner, lines: Sequence[Line]) -> list[str]:
    """The table of AUC by kind of user, if there are lines of it."""
    if not any(line.metric == NEW for line in lines):
        return []
    share = 1 - known_users(runner.split).mean()
    return [
        f"New users have no row in training; {share:.1%} of the test rows are theirs.\n",
        tables.by_scenario(lines, [NEW, KNOWN]),
    ]


def _facts(trials: Sequence[Trial]) -> list[str]:
    """Cells of EXTRA: the parameters, the median speed of training and the mean epoch kept."""
    speed = float(np.median([trial.record["samples_per_second"] for trial in trials]))
    epochs = float(np.mean([trial.record["epochs"] for trial in trials]))
    return [f"{trials[0].record['parameters']:,}", f"{speed:,.0f}", f"{epochs:.1f}"]


if __name__ == "__main__":
    run_command(__doc__, compare, CompareOptions)
