"""The experiments of the SSIM paper, one word each: python -m jobs.research.ssim_experiments EXPERIMENT.

arms: ST-Backbone, Finetune, MT-Backbone, MT-Backbone-S, SSIM (and the oracle's mask where the truth is known).
ablations: SSIM-R (random rows), -P (positives), -NK (no KL term), -ND (no scenario-specific heads).
reusability: every source's set in every target.  ratios: the sweep 0, 5, 10 ... 100 %.
features: are shared rows' features seen in other scenarios?  projection: shared and unshared rows, by PCA.
times: what search, reuse and baselines cost.

Every training and search is a cell that is kept under --out and never made twice, also between experiments; a command
that was cut off goes on where it was. Writes EXPERIMENT.csv, .md and .svg there.

  python -m jobs.research.ssim_experiments arms --data planted:seed=1 --backbones star --seeds 3 --out results/planted
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobs.cli import progress
from jobs.research import tables
from jobs.research.analyses import write_features, write_projection, write_times
from jobs.research.options import add_lab_options, named_models, open_lab, run_command, seeds_of
from jobs.research.studies import Asked, write_ablations, write_arms, write_ratios, write_reusability
from msr_models.experiments.reuse import SWEEP
from schemas.errors import TrainingError

BACKBONES = "shared_bottom,deepfm,dcn,star,hmoe"
GRID = (0.0, 0.1, 0.3, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Experiment:
    """What writes its tables, and the ratios it takes where none are given."""

    write: Callable[[Asked], str]
    ratios: Sequence[float]


EXPERIMENTS = {
    "arms": Experiment(write_arms, GRID),
    "ablations": Experiment(write_ablations, GRID),
    "reusability": Experiment(write_reusability, GRID),
    "ratios": Experiment(write_ratios, SWEEP),
    "features": Experiment(write_features, [r for r in SWEEP if 0 < r < 1]),
    "projection": Experiment(write_projection, [0.3]),
    "times": Experiment(write_times, GRID),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("experiment", choices=list(EXPERIMENTS), metavar="EXPERIMENT", help=", ".join(EXPERIMENTS))
    add_lab_options(parser)
    parser.add_argument("--backbones", default=BACKBONES, help=f"sources, and targets (default {BACKBONES})")
    parser.add_argument("--targets", help="reusability: other targets than the sources")
    parser.add_argument("--ratios", help="shares of the rows to try, as 0,0.1,0.3,0.5,1")


def run(options: argparse.Namespace) -> None:
    """Run one experiment and write its files."""
    experiment = EXPERIMENTS[options.experiment]
    backbones = named_models(options.backbones)
    targets = named_models(options.targets) if options.targets else backbones
    ratios = list(experiment.ratios) if options.ratios is None else parse_ratios(options.ratios)
    lab = open_lab(options, list(dict.fromkeys([*backbones, *targets])))
    asked = Asked(
        lab=lab, options=options, backbones=backbones, targets=targets, seeds=seeds_of(options), ratios=ratios
    )
    text = f"{options.experiment} on {lab.split.name}, {len(asked.seeds)} seeds\n\n{experiment.write(asked)}"
    tables.write_text(options.out / f"{options.experiment}.md", text)
    print(text, flush=True)
    progress(f"{lab.made} cells made, {lab.done - lab.made} kept; written to {options.out}/{options.experiment}.*")


def parse_ratios(text: str) -> list[float]:
    """Ascending. Raises TrainingError for what is no share."""
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = [-1.0]
    if not all(0 <= ratio <= 1 for ratio in found):
        raise TrainingError(f"--ratios {text!r}: give shares between 0 and 1, separated by commas, as 0,0.1,0.5,1")
    return found


if __name__ == "__main__":
    run_command(__doc__, add_arguments, run)
