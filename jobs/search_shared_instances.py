"""Search the days before ds for instances worth sharing across scenarios (SSIM), score them, and store the set.

The window is the search.window_days days before ds, or with `--window scheduled` those before the scheduled search day
that training of ds relies on (every search.every_days days). The set's id follows from window, configuration and
seed: an existing set is left as it is, and an interrupted search that runs again ends in the same set. A search that
collapsed is stored with status `rejected` and its reason; training never uses it. Of several processes under torchrun
the first one searches.

--restore ID repeats the search of a set whose selector file was lost or damaged, from the tables that it read.
"""

from __future__ import annotations

import logging
from datetime import date
from typing import Literal

import torch
from pydantic import Field

from jobs.cli import StepArgs, StepOptions, Threads, run_step
from msr_models.data.window import load_window
from msr_models.ssim.due_searches import do_due_searches
from msr_models.ssim.publish import is_published, publish_set, selector_record, shared_set_id
from msr_models.ssim.restore import restore_file, search_to_repeat
from msr_models.ssim.search import run_search
from msr_models.ssim.store import make_scorer
from msr_models.training.device import usable_device
from msr_models.training.memory import keep_freed_memory
from msr_models.training.processes import launched_processes
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.first_days import why_no_window
from schemas.pipeline_spec import SearchSpec, Seed

log = logging.getLogger(__name__)

GROUP = "daily"


class SearchOptions(StepOptions):
    """Options of this step."""

    window: Literal["exact", "scheduled"] = Field(
        default="exact", description="the days before ds, or those before its scheduled search day"
    )
    seed: Seed | None = Field(default=None, description="seed instead of search.seed")
    threads: Threads = Field(default=1, description="CPU threads; scores depend on it in their last digits")
    restore: str | None = Field(
        default=None, title="ID", description="repeat the lost or damaged selector file of this set"
    )
    device: str = Field(default="auto", description="auto (a GPU when there is one), cpu, cuda or cuda:N")


def step(args: StepArgs[SearchOptions]) -> None:
    """Search for every day, or restore one set's file."""
    dataset, options = args.dataset, args.options
    if not (args.days or options.restore):
        raise SharedSetError("which day? give --ds YYYY-MM-DD, --from and --to, or --restore ID")
    if options.restore and (args.days or options.model_fields_set & {"seed", "window"}):
        raise SharedSetError("--restore repeats the set's own search; leave out --seed, --window and days")
    if launched_processes()[0]:
        log.info("the first process searches, this one has nothing to do")
        return
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    device = usable_device(options.device)
    if options.restore:
        restore_selector(dataset, options.restore, device)
        return
    spec = dataset.search if options.seed is None else dataset.search.model_copy(update={"seed": options.seed})
    for ds in args.days:
        if options.window == "scheduled":
            do_due_searches(dataset, ds, spec, lambda day: search_day(dataset, day, spec, device))
        else:
            search_day(dataset, ds, spec, device)


def search_day(dataset: DatasetSpec, ds: date, spec: SearchSpec, device: str = "cpu") -> str | None:
    """Search the window before `ds`; returns the set's id, None where the window is not full yet."""
    days = dataset.window_before(ds, spec.window_days)
    if days is None:
        log.info(f"{ds}: nothing to search: {why_no_window(dataset, ds, 'search', spec.window_days)}")
        return None
    log.info(f"{ds}: reading {days[0]} .. {days[-1]}")
    window = load_window(dataset, days)
    set_id = shared_set_id(window, spec)
    if is_published(dataset, set_id):
        restore_selector(dataset, set_id, device)
        return set_id
    rows_K = torch.bincount(window.scenario_N, minlength=window.num_scenarios).tolist()
    shown = ", ".join(f"{name} {rows:,}" for name, rows in zip(window.scenario_names, rows_K, strict=True))
    log.info(f"{ds}: {len(window):,} rows ({shown}); vocabulary {window.vocabulary_version}; set {set_id}")
    publish_set(dataset, window, spec, set_id, run_search(window, spec, device=device))
    return set_id


def restore_selector(dataset: DatasetSpec, set_id: str, device: str = "cpu") -> None:
    """Repeat the search that made a set whose selector file is lost or damaged, and store the file again.

    Raises SharedSetError where the set is unknown, or where the search does not end in the same file here.
    """
    again = search_to_repeat(dataset, set_id)
    if again is None:
        log.info(f"shared set {set_id} exists, nothing to do")
        return
    first, last = again.window.days[0], again.window.days[-1]
    log.info(f"shared set {set_id}: {again.fault}; repeating the search of {first} .. {last}")
    result = run_search(again.window, again.spec, device=device)
    restore_file(dataset, again, make_scorer(set_id, again.window, result), selector_record(again.window, result))
    log.info(f"shared set {set_id}: its selector is restored, with the same checksum")


if __name__ == "__main__":
    run_step(__doc__, step, SearchOptions, needs_days=False)
