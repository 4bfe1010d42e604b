"""The experiments of the SSIM paper, one word each: python -m jobs.research.ssim_experiments EXPERIMENT.

arms: ST-Backbone, Finetune, MT-Backbone, MT-Backbone-S, SSIM (and the oracle's mask where the truth is known).
ablations: SSIM-R (random rows), -P (positives), -NK (no KL term), -ND (no scenario-specific heads).
reusability: every source's set in every target.  ratios: the sweep 0, 5, 10 ... 100 %.
features: are shared rows' features seen in other scenarios?  projection: shared and unshared rows, by PCA.
times: what search, reuse and baselines cost.

Every training and search is a trial, stored under --out and never repeated, also between experiments; an interrupted
command resumes where it stopped. Writes EXPERIMENT.csv, .md and .svg there.

  python -m jobs.research.ssim_experiments arms --data planted:seed=1 --backbones star --seeds 3 --out results/planted
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, field_validator

from jobs.cli import POSITIONAL, run_command
from jobs.research.analyses import write_features, write_projection, write_times
from jobs.research.options import RunnerOptions, epochs_logged, named_models, open_runner
from jobs.research.studies import Request, write_ablations, write_arms, write_ratios, write_reusability
from lake.files import write_text
from msr_models.experiments.reuse import SWEEP
from schemas.errors import TrainingError
from schemas.text import did_you_mean

log = logging.getLogger(__name__)

BACKBONES = "shared_bottom,deepfm,dcn,star,hmoe"
GRID = (0.0, 0.1, 0.3, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Experiment:
    """What writes its tables, and the ratios it takes where none are given."""

    write: Callable[[Request], str]
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


class ExperimentOptions(RunnerOptions):
    """Options of this command."""

    experiment: Annotated[str, POSITIONAL, Field(title="EXPERIMENT", description=", ".join(EXPERIMENTS))]
    backbones: str = Field(default=BACKBONES, description="sources, and targets")
    targets: str | None = Field(default=None, description="reusability: other targets than the sources")
    ratios: str | None = Field(default=None, description="shares of the rows to try, as 0,0.1,0.3,0.5,1")

    @field_validator("experiment")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in EXPERIMENTS:
            raise ValueError(f"unknown experiment; {did_you_mean(name, EXPERIMENTS)} give {', '.join(EXPERIMENTS)}")
        return name


def run(options: ExperimentOptions) -> None:
    """Run one experiment and write its files."""
    experiment = EXPERIMENTS[options.experiment]
    backbones = named_models(options.backbones)
    targets = named_models(options.targets) if options.targets else backbones
    ratios = list(experiment.ratios) if options.ratios is None else parse_ratios(options.ratios)
    runner = open_runner(options, list(dict.fromkeys([*backbones, *targets])))
    request = Request(
        runner=runner,
        name=options.experiment,
        out=options.out,
        resamples=options.resamples,
        backbones=backbones,
        targets=targets,
        seeds=options.seed_numbers,
        ratios=ratios,
    )
    with epochs_logged(options.verbose):
        written = experiment.write(request)
    text = f"{options.experiment} on {runner.split.name}, {len(request.seeds)} seeds\n\n{written}"
    write_text(options.out / f"{options.experiment}.md", text)
    print(text, flush=True)
    kept = runner.done - runner.made
    log.info(f"{runner.made} trials made, {kept} kept; written to {options.out}/{options.experiment}.*")


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
    run_command(__doc__, run, ExperimentOptions)
