"""Run one experiment of the SSIM paper and write its tables and plots.

arms: ST-Backbone, Finetune, MT-Backbone, MT-Backbone-S, SSIM with our objective and with the paper's (joint, eq. 15)
and, if the truth is known, the oracle's mask.
ablations: SSIM-R (random rows), -P (positives), -NK (no KL term), -ND (no scenario-specific heads), with a dense trunk
(eq. 8), and joint (eq. 15).
reusability: every source's shared set in every target.  ratios: sweep over 0, 5, 10, 20 ... 100 %.
features: do other scenarios have the features of shared rows?  projection: shared and other rows by PCA.
times: cost of search, reuse and baselines.

Every training and search is a trial, cached under --out and shared between experiments; an interrupted command resumes
where it stopped. Writes EXPERIMENT.csv, .md and .svg there.

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
    """The function that writes its tables, and its default ratios."""

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
    experiment: Annotated[str, POSITIONAL, Field(title="EXPERIMENT", description=", ".join(EXPERIMENTS))]
    backbones: str = Field(default=BACKBONES, description="source models, also used as targets")
    targets: str | None = Field(default=None, description="reusability: target models (default: the sources)")
    ratios: str | None = Field(default=None, description="shares of rows to try, for example 0,0.1,0.3,0.5,1")

    @field_validator("experiment")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in EXPERIMENTS:
            raise ValueError(f"unknown experiment; {did_you_mean(name, EXPERIMENTS)} known: {', '.join(EXPERIMENTS)}")
        return name


def run(options: ExperimentOptions) -> None:
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
    chosen = f"epochs chosen by validation {runner.trainer.select_on}, ratios by validation auc"
    text = f"{options.experiment} on {runner.split.name}, {len(request.seeds)} seeds; {chosen}\n\n{written}"
    write_text(options.out / f"{options.experiment}.md", text)
    print(text, flush=True)
    cached = runner.done - runner.made
    log.info(f"{runner.made} trials run, {cached} cached; written to {options.out}/{options.experiment}.*")


def parse_ratios(text: str) -> list[float]:
    """Sorted ratios. Raises TrainingError for one outside 0 .. 1."""
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = [-1.0]
    if not all(0 <= ratio <= 1 for ratio in found):
        raise TrainingError(
            f"--ratios {text!r}: give shares between 0 and 1 separated by commas, for example 0,0.1,0.5,1"
        )
    return found


if __name__ == "__main__":
    run_command(__doc__, run, ExperimentOptions)
