"""Decide whether a search that ds relies on is still to be done: the last line is `yes`, `no` or `skip`.

Searches are scheduled every search.every_days days from the first day with a full window on. Between them one is due
where a day drifted: where scoring for the day before ds flagged its newest day (shared_instance_drift), the days before
ds are searched. `yes` also where such a flag is still to be made. So which set a day uses does not depend on the order
in which days are trained. A search that was rejected or retired is repeated only with other settings in the YAML; while
a set is pinned, none is due. skip: the training window before ds is not full, so nothing is trained for it.
"""

from __future__ import annotations

import logging

from jobs.cli import StepArgs, StepOptions, run_step
from msr_models.sets.schedule import needs_search

log = logging.getLogger(__name__)

GROUP = "daily"


def step(args: StepArgs[StepOptions]) -> None:
    """Answer for the day (the last of a range)."""
    answer, reason = needs_search(args.dataset, args.ds)
    log.info(f"{args.ds}: {answer}: {reason}")
    print(answer, flush=True)


if __name__ == "__main__":
    run_step(__doc__, step, StepOptions)
