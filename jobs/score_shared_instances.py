"""Score the training window before ds with the shared set that ds uses: masks for the days that have none yet.

The set is the newest accepted one whose window ends before ds, or the one of --shared-set. Only inference with the
saved selector: a day's masks do not depend on other days, so days may run side by side and again.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

import numpy as np
import torch

from jobs.arrow_lake import overwrite_partition
from jobs.cli import StepArgs, progress, run_step
from msr_models.data import lake_reader
from msr_models.data.shared_sets import SharedSet, find_shared_set, get_shared_set
from msr_models.data.window import load_window, published_empty
from msr_models.ssim.store import Scorer, load_scorer
from schemas.dataset_spec import DatasetSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this step."""
    parser.add_argument("--shared-set", help="id of the shared set to use instead of the newest fitting one")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def step(args: StepArgs) -> None:
    """Score the window of every day asked for."""
    torch.set_num_threads(getattr(args.options, "threads", 1))
    named = getattr(args.options, "shared_set", None)
    scorers: dict[str, Scorer] = {}
    for ds in args.days:
        found = get_shared_set(args.dataset, named, ds) if named else find_shared_set(args.dataset, ds)
        if found is None:
            progress(f"{ds}: no accepted shared set ends before it: nothing to score")
            continue
        days = args.dataset.window_before(ds, args.dataset.training.window_days) or []
        todo = [day for day in days if not is_scored(args.dataset, found.shared_set_id, day)]
        if not todo:
            progress(f"{ds}: all {len(days)} days of its window have masks in {found.shared_set_id}, nothing to do")
            continue
        if found.shared_set_id not in scorers:
            scorers[found.shared_set_id] = load_scorer(Path(found.selector_uri), found.selector_sha256)
        for day in todo:
            score_day(args.dataset, found, scorers[found.shared_set_id], day)


def is_scored(dataset: DatasetSpec, set_id: str, day: date) -> bool:
    """Whether the set has masks of exactly the instances that `scenario_features` has on this day.

    Features that were built again may have other rows: their masks are then made again.
    """
    if published_empty(dataset, day):
        return True
    if day not in lake_reader.published_days(dataset.name, "shared_instance_masks", {"shared_set_id": set_id}):
        return False
    columns, filters = ["instance_id"], {"shared_set_id": set_id}
    masked = lake_reader.read_table(
        dataset.name, "shared_instance_masks", columns=columns, days=[day], filters=filters
    )["instance_id"]
    present = lake_reader.read_table(dataset.name, "scenario_features", columns=columns, days=[day])["instance_id"]
    return np.array_equal(np.sort(masked.to_numpy()), np.sort(present.to_numpy()))


def score_day(dataset: DatasetSpec, found: SharedSet, scorer: Scorer, day: date) -> None:
    """Write the day's masks under the set."""
    window = load_window(dataset, [day])
    masks = scorer.masks(window)
    rows = overwrite_partition(
        masks, dataset, "shared_instance_masks", {"shared_set_id": found.shared_set_id, "ds": str(day)}
    )
    shared = float(masks["is_shared"].to_numpy().mean())
    progress(f"{day}: {rows:,} masks in {found.shared_set_id}, {shared:.1%} shared")


if __name__ == "__main__":
    run_step(__doc__, step, add_arguments)
