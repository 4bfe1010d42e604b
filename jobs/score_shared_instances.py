"""Score the training window before ds with the shared set that ds uses: masks for the days that have none yet.

A day whose features were rebuilt since its masks were made is scored and compared again.

The set is the one pinned for ds or the newest accepted one whose window ends before ds, or the one of --shared-set.
With --window exact (and --shared-set) ds itself is scored. Scoring only runs the saved selector: a day's masks do not
depend on other days, so days may run side by side, in several processes (under torchrun each takes its share of the
days), and again after any interruption. Each day's scores are compared with those of the set's own window
(shared_instance_drift); a day past search.drift_psi_limit or search.drift_share_limit is reported, and makes a new
search due for the days after it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date
from typing import Literal

import torch
from pydantic import Field

from jobs.cli import StepArgs, StepOptions, Threads, run_step
from msr_models.sets.catalogue import read_catalogue
from msr_models.sets.drift import drift_flags
from msr_models.ssim.set_scoring import SetScoring
from msr_models.training.processes import launched_processes
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.first_days import why_no_window
from schemas.tables.shared_instance_sets import SharedSet

log = logging.getLogger(__name__)

GROUP = "daily"


class ScoreOptions(StepOptions):
    """Options of this step."""

    shared_set: str | None = Field(
        default=None, title="ID", description="shared set to use instead of the pinned or newest fitting one"
    )
    window: Literal["training", "exact"] = Field(
        default="training",
        description="what to score: the days before ds that its training reads, or (with --shared-set) ds itself",
    )
    threads: Threads = Field(default=1, description="CPU threads")


def step(args: StepArgs[ScoreOptions]) -> None:
    """Score the window of every day, or the days themselves."""
    dataset, named = args.dataset, args.options.shared_set
    torch.set_num_threads(args.options.threads)
    scorings: dict[str, SetScoring] = {}
    if args.options.window == "exact":
        if not named:
            sets = command("shared_sets", dataset, "list")
            raise SharedSetError(f"--window exact scores days with one set: name it with --shared-set ID, see '{sets}'")
        return _score(dataset, read_catalogue(dataset).get(named), args.days, scorings, "the range given")
    for ds in args.days:
        catalogue = read_catalogue(dataset)
        found = catalogue.get(named, ds) if named else catalogue.find(ds)
        days = dataset.window_before(ds, dataset.training.window_days)
        no_window = why_no_window(dataset, ds, "training", dataset.training.window_days) if days is None else ""
        if found is None:
            because = f": {no_window}" if no_window else ""
            log.info(f"{ds}: no accepted shared set ends before it: nothing to score{because}")
        elif days is None:
            log.info(f"{ds}: nothing to score: {no_window}")
        else:
            _score(dataset, found, days, scorings, f"the window before {ds}")


def _score(
    dataset: DatasetSpec, found: SharedSet, days: Sequence[date], scorings: dict[str, SetScoring], which: str
) -> None:
    """Complete this process's share of the days and name those that drifted. scorings: one per set, kept between."""
    rank, world = launched_processes()
    own = [day for day in days if day.toordinal() % world == rank]
    set_id = found.shared_set_id
    scoring = scorings.setdefault(set_id, SetScoring(dataset, found))
    scored = [day for day in own if scoring.complete_day(day)]
    if own and not scored:
        log.info(f"all {len(own)} days of {which} have masks of their features in {set_id}, nothing to do")
    flags = drift_flags(dataset, own)
    drifted = [str(day) for day in own if flags.get((set_id, day))]
    if drifted:
        log.warning(f"days of {which} that drifted from {set_id}: {', '.join(drifted)}")


if __name__ == "__main__":
    run_step(__doc__, step, ScoreOptions)
