"""Score the training window before ds with the shared set that ds uses: masks for the days that have none yet.

A day whose features were built again since its masks were made is scored again, and its comparison made anew.

The set is the one pinned for ds or the newest accepted one whose window ends before ds, or the one of --shared-set.
With --window exact (and --shared-set) it is ds itself that is scored.
Only inference with the saved selector: a day's masks do not depend on other days, so days may run side by side, in
several processes (under torchrun each takes its share of the days), and again after any interruption. Each day's
scores are compared with those of the set's own window (shared_instance_drift); a day past the limits of
search.drift_psi_limit or search.drift_share_limit is reported, and makes a new search due for the days after it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date

import torch

from jobs.cli import StepArgs, progress, run_step
from msr_models.sets.catalogue import SharedSet, find_shared_set, get_shared_set
from msr_models.sets.schedule import drift_flags
from msr_models.ssim.set_scoring import SetScoring, launched_processes
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this step."""
    parser.add_argument("--shared-set", help="id of the shared set to use instead of the pinned or newest fitting one")
    parser.add_argument(
        "--window",
        choices=["training", "exact"],
        default="training",
        help="what to score: the days before ds that its training reads, or (with --shared-set) ds itself",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def step(args: StepArgs) -> None:
    """Score the window of every day asked for, or the days themselves."""
    torch.set_num_threads(getattr(args.options, "threads", 1))
    named = getattr(args.options, "shared_set", None)
    scorings: dict[str, SetScoring] = {}
    if getattr(args.options, "window", "training") == "exact":
        if not named:
            raise SharedSetError(
                f"--window exact scores days with one set: name it with --shared-set ID, see python -m "
                f"jobs.shared_sets --dataset {args.dataset.name} list"
            )
        return _score(args.dataset, get_shared_set(args.dataset, named), args.days, scorings, "those asked for")
    for ds in args.days:
        found = get_shared_set(args.dataset, named, ds) if named else find_shared_set(args.dataset, ds)
        if found is None:
            progress(f"{ds}: no accepted shared set ends before it: nothing to score")
            continue
        days = args.dataset.window_before(ds, args.dataset.training.window_days)
        if days is None:
            progress(
                f"{ds}: not all {args.dataset.training.window_days} days before it have features: nothing to score"
            )
            continue
        _score(args.dataset, found, days, scorings, f"the window before {ds}")


def _score(
    dataset: DatasetSpec, found: SharedSet, days: Sequence[date], scorings: dict[str, SetScoring], which: str
) -> None:
    """Complete this process's share of the days and name those that drifted. scorings: one per set, kept between."""
    rank, world = launched_processes()
    own = [day for day in days if day.toordinal() % world == rank]
    set_id = found.shared_set_id
    scoring = scorings.setdefault(set_id, SetScoring(dataset, found))
    made = [day for day in own if scoring.complete_day(day)]
    if own and not made:
        progress(f"all {len(own)} days of {which} have masks of their features in {set_id}, nothing to do")
    flags = drift_flags(dataset, own)
    drifted = [str(day) for day in own if flags.get((set_id, day))]
    if drifted:
        progress(f"days of {which} that drifted from {set_id}: {', '.join(drifted)}")


if __name__ == "__main__":
    run_step(__doc__, step, add_arguments)
