"""Say whether a search for shared instances is due for ds: the last line is `yes`, `no` or `skip`.

yes: no accepted set's window ends before ds, or the newest ended more than search.every_days days before it.
skip: the training window before ds is not full, so nothing is trained for it.
"""

from __future__ import annotations

from datetime import date

from jobs.cli import StepArgs, progress, run_step
from msr_models.data.shared_sets import find_shared_set
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
    found = find_shared_set(dataset, ds)
    if found is None:
        return "yes", "no accepted shared set ends before it"
    age = (ds - found.window_end).days
    limit = dataset.search.every_days
    if age > limit:
        return "yes", f"shared set {found.shared_set_id} ended {age} days before it: over search.every_days {limit}"
    return "no", f"shared set {found.shared_set_id} ended {age} days before it (search.every_days {limit})"


if __name__ == "__main__":
    run_step(__doc__, step)
