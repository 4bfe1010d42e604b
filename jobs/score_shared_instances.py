"""Score the training window before ds with the shared set that ds uses: masks for the days that have none yet.

The set is the one pinned for ds or the newest accepted one whose window ends before ds, or the one of --shared-set.
Only inference with the saved selector: a day's masks do not depend on other days, so days may run side by side and
again. Each day's scores are compared with those of the set's own window (shared_instance_drift); a day past the limits
of search.drift_psi_limit or search.drift_share_limit is reported, and makes a new search due for the days after it.
"""

from __future__ import annotations

import argparse

import torch

from jobs.cli import StepArgs, progress, run_step
from jobs.shared_scoring import SetScoring
from msr_models.data.search_schedule import drift_flags
from msr_models.data.shared_sets import find_shared_set, get_shared_set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this step."""
    parser.add_argument("--shared-set", help="id of the shared set to use instead of the pinned or newest fitting one")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def step(args: StepArgs) -> None:
    """Score the window of every day asked for."""
    torch.set_num_threads(getattr(args.options, "threads", 1))
    named = getattr(args.options, "shared_set", None)
    scorings: dict[str, SetScoring] = {}
    for ds in args.days:
        found = get_shared_set(args.dataset, named, ds) if named else find_shared_set(args.dataset, ds)
        if found is None:
            progress(f"{ds}: no accepted shared set ends before it: nothing to score")
            continue
        set_id = found.shared_set_id
        days = args.dataset.window_before(ds, args.dataset.training.window_days) or []
        scoring = scorings.setdefault(set_id, SetScoring(args.dataset, found))
        made = [day for day in days if scoring.complete_day(day)]
        if not made:
            progress(f"{ds}: all {len(days)} days of its window have masks in {set_id}, nothing to do")
        flags = drift_flags(args.dataset, days)
        drifted = [str(day) for day in days if flags.get((set_id, day))]
        if drifted:
            progress(f"{ds}: days of its window that drifted from {set_id}: {', '.join(drifted)}")


if __name__ == "__main__":
    run_step(__doc__, step, add_arguments)
