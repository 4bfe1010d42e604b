"""Say whether the scheduled search that ds relies on is still to be done: the last line is `yes`, `no` or `skip`.

Searches are scheduled every search.every_days days from the first day with a full window on, so that which set a day
uses does not depend on the order in which days are trained. A search that ended as `rejected` is not repeated.
skip: the training window before ds is not full, so nothing is trained for it.
"""

from __future__ import annotations

from datetime import date, timedelta

from jobs.cli import StepArgs, progress, run_step
from msr_models.data.shared_sets import find_shared_set, shared_sets
from schemas.dataset_spec import DatasetSpec


def step(args: StepArgs) -> None:
    """Answer for the day (the last of a range)."""
    answer, reason = needs_search(args.dataset, args.ds)
    progress(f"{args.ds}: {answer}: {reason}")
    print(answer, flush=True)


def needs_search(dataset: DatasetSpec, ds: date) -> tuple[str, str]:
    """(yes, no or skip; why)."""
    if dataset.window_before(ds, dataset.training.window_days) is None:
        first = dataset.first_feature_day
        return "skip", f"not all {dataset.training.window_days} days before it have features (the first is {first})"
    due = dataset.search_day(ds)
    if due is None:
        return "no", f"the first search needs {dataset.search.window_days} days with features"
    found = find_shared_set(dataset, ds)
    if found is not None and found.window_end >= due - timedelta(days=1):
        return "no", f"shared set {found.shared_set_id} covers days up to {found.window_end}"
    for other in shared_sets(dataset):
        is_of_due = other.window_end == due - timedelta(days=1) and other.lineage == dataset.lineage
        if is_of_due and other.status == "rejected":
            return "no", f"the search of {due} was rejected ({other.status_reason}); change search in the YAML"
    return "yes", f"the search of {due} is to be done"


if __name__ == "__main__":
    run_step(__doc__, step)
