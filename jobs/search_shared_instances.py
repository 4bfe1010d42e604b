"""Search the days before ds for instances worth sharing across scenarios (SSIM), score them, keep the set.

The window is the search.window_days days before ds, or with `--window scheduled` those before the scheduled search day
that training of ds relies on (every search.every_days days). The set's id follows from window, configuration and
seed: a set that exists is left as it is, and a search that was cut off and runs again ends in the same set. A search
that collapsed is kept with status `rejected` and its reason; training never uses it. Of several processes under
torchrun the first one searches.

--restore ID makes a selector file that was lost or damaged again: the search of that set, from the tables it read.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from jobs.cli import StepArgs, progress, run_step
from lake import reader as lake_reader
from lake.arrow_writer import overwrite_rows
from lake.locations import artifact_uri, artifacts_dir
from msr_models.data.window import Window, load_window
from msr_models.sets.catalogue import read_catalogue
from msr_models.sets.curves import curves_file
from msr_models.sets.describe import tie_lines
from msr_models.sets.feature_files import feature_files
from msr_models.ssim.due_searches import do_due_searches
from msr_models.ssim.restore import put_back, search_of_set
from msr_models.ssim.search import SearchResult, run_search
from msr_models.ssim.set_scoring import launched_processes, publish_masks
from msr_models.ssim.store import make_scorer, save_scorer
from msr_models.training.device import usable_device
from msr_models.training.manifest import code_version
from msr_models.training.memory import keep_freed_memory
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.pipeline_spec import SearchSpec

# Settings that say when a search is due or which days it takes, not what it does with them
_NOT_IN_ID = {"every_days", "window_days"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this step."""
    parser.add_argument(
        "--window", choices=["exact", "scheduled"], default="exact", help="days before ds, or before its search day"
    )
    parser.add_argument("--seed", type=int, help="seed instead of search.seed")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; scores depend on it in their last digits")
    parser.add_argument("--restore", metavar="ID", help="make the lost or damaged selector file of this set again")
    parser.add_argument("--device", default="auto", help="auto (a GPU when there is one), cpu, cuda or cuda:N")


def step(args: StepArgs) -> None:
    """Search for every day asked for, or make one set's file again."""
    restored = getattr(args.options, "restore", None)
    if not (args.days or restored):
        raise SharedSetError("which day? give --ds YYYY-MM-DD, --from and --to, or --restore ID")
    if launched_processes()[0]:
        return progress("the first process searches, this one has nothing to do")
    keep_freed_memory()
    torch.set_num_threads(getattr(args.options, "threads", 1))
    device = usable_device(getattr(args.options, "device", "cpu"))
    if restored:
        return restore_selector(args.dataset, restored, device)
    seed = getattr(args.options, "seed", None)
    spec = args.dataset.search if seed is None else args.dataset.search.model_copy(update={"seed": seed})
    asked = args.dataset.model_copy(update={"search": spec})
    scheduled = getattr(args.options, "window", "exact") == "scheduled"
    for ds in args.days:
        if scheduled:
            do_due_searches(asked, ds, lambda day: search_day(args.dataset, day, spec, device))
        else:
            search_day(args.dataset, ds, spec, device)


def search_day(dataset: DatasetSpec, ds: date, spec: SearchSpec, device: str = "cpu") -> str | None:
    """Search the window before `ds`; returns the set's id, None where the window is not full yet."""
    days = dataset.window_before(ds, spec.window_days)
    if days is None:
        first = dataset.first_feature_day
        progress(f"{ds}: not all {spec.window_days} days before it have features (first: {first}): nothing to search")
        return None
    progress(f"{ds}: reading {days[0]} .. {days[-1]}")
    window = load_window(dataset, days)
    set_id = shared_set_id(window, spec)
    if _exists(dataset, set_id):
        restore_selector(dataset, set_id, device)
        return set_id
    rows_K = torch.bincount(window.scenario_N, minlength=window.num_scenarios).tolist()
    shown = ", ".join(f"{name} {rows:,}" for name, rows in zip(window.scenario_names, rows_K, strict=True))
    progress(f"{ds}: {len(window):,} rows ({shown}); vocabulary {window.vocabulary_version}; set {set_id}")
    result = run_search(window, spec, progress, device=device)
    with _only_writer(artifacts_dir(dataset) / "selectors" / set_id):
        # On a GPU two searches of one id differ in last digits: masks of one and selector of the other are no set
        if _exists(dataset, set_id):
            progress(f"{ds}: shared set {set_id} was made by another process meanwhile; this one's is dropped")
        else:
            _publish(dataset, window, spec, set_id, result)
    return set_id


def shared_set_id(window: Window, spec: SearchSpec) -> str:
    """<backbone>-<window end>-<8 hex digits of rows and configuration>."""
    config = spec.model_dump_json(exclude=_NOT_IN_ID)
    digest = hashlib.sha256(f"{window.dataset_name}|{config}|{window.fingerprint}".encode()).hexdigest()[:8]
    return f"{spec.backbone}-{window.days[-1]:%Y%m%d}-{digest}"


def restore_selector(dataset: DatasetSpec, set_id: str, device: str = "cpu") -> None:
    """Make the selector file of a set again where it is lost or damaged, by the search that made it.

    Raises SharedSetError where the set is unknown, or where the search does not end in the same file here.
    """
    again = search_of_set(dataset, set_id)
    if again is None:
        return progress(f"shared set {set_id} exists, nothing to do")
    first, last = again.window.days[0], again.window.days[-1]
    progress(f"shared set {set_id}: {again.fault}; the search of {first} .. {last} once more")
    result = run_search(again.window, again.spec, progress, device=device)
    scorer = make_scorer(set_id, again.window, result)
    put_back(dataset, again, scorer, _record(result, share_rates(again.window, result)))
    progress(f"shared set {set_id}: its selector is there again, with the same checksum")


def share_rates(window: Window, result: SearchResult) -> dict[str, dict[str, float | None]]:
    """Scenario name -> {all, label_0, label_1} -> share of its rows with is_shared; None without such rows."""
    scenario_N, label_N = window.scenario_N.numpy(), window.label_N.numpy()

    def rate(at_N: Any) -> float | None:
        return float(result.shared_N[at_N].mean()) if at_N.any() else None

    return {
        name: {
            "all": rate(scenario_N == k),
            "label_0": rate((scenario_N == k) & (label_N == 0)),
            "label_1": rate((scenario_N == k) & (label_N == 1)),
        }
        for k, name in enumerate(window.scenario_names)
    }


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Let one process at a time publish the set of this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # given back when the file closes or the process dies
        yield


def _exists(dataset: DatasetSpec, set_id: str) -> bool:
    if not lake_reader.table_exists(dataset, "shared_instance_sets"):
        return False
    rows = lake_reader.read_table(
        dataset, "shared_instance_sets", columns=["status"], filters={"shared_set_id": set_id}
    )
    return rows.num_rows > 0


def _publish(dataset: DatasetSpec, window: Window, spec: SearchSpec, set_id: str, result: SearchResult) -> None:
    """File, then masks day by day, then the catalogue row: a set that is listed is complete."""
    if not np.isfinite(result.probs_N).all():
        raise SharedSetError(f"shared set {set_id}: scores are not finite; lower search.selector_learning_rate")
    rates = share_rates(window, result)
    path = artifacts_dir(dataset) / "selectors" / set_id / "selector.pt"
    scorer = make_scorer(set_id, window, result)
    sha256 = save_scorer(path, scorer, spec, _record(result, rates))
    masks = scorer.masks(window, result.probs_N)
    # Of the versions that were read: features that were built again during the search make these masks stale
    files = feature_files(dataset, window.days, window.table_versions)
    for index, day in enumerate(window.days):
        rows = masks.filter(pa.array(window.day_N.numpy() == index))
        if rows.num_rows:
            progress(f"{day}: {publish_masks(dataset, set_id, day, rows, files[day]):,} masks")
    saved = {"selector_uri": artifact_uri(dataset, path), "selector_sha256": sha256}
    row = _catalogue_row(window, spec, set_id, result, rates) | saved
    overwrite_rows(pa.Table.from_pylist([row]), dataset, "shared_instance_sets", {"shared_set_id": set_id})
    for name, rate in rates.items():
        parts = ", ".join(f"{key} {'no rows' if value is None else f'{value:.1%}'}" for key, value in rate.items())
        progress(f"share rate {name}: {parts}")
    words = f"accepted{result.reason and f' ({result.reason})'}"
    if result.status != "accepted":
        words = f"REJECTED: {result.reason} (curves: {curves_file(path)})"
    progress(f"shared set {set_id}: {words}; shares {row['share_rate']:.1%} of {len(window):,} rows")
    for line in tie_lines(read_catalogue(dataset), window.days[-1]):
        progress(line)


def _record(result: SearchResult, rates: dict[str, Any]) -> dict[str, Any]:
    """What is kept beside the selector for people."""
    return {"curves": result.curves, "share_rates": rates, "status": result.status, "status_reason": result.reason}


def _catalogue_row(
    window: Window, spec: SearchSpec, set_id: str, result: SearchResult, rates: dict[str, Any]
) -> dict[str, Any]:
    return {
        "shared_set_id": set_id,
        "dataset": window.dataset_name,
        "window_start": str(window.days[0]),
        "window_end": str(window.days[-1]),
        "source_backbone": spec.backbone,
        "objective": spec.objective,
        "kl_weight": result.kl_weight,
        "threshold": result.threshold,
        "gate_estimator": spec.gate_estimator,
        "kl_form": spec.kl_form,
        "seed": spec.seed,
        "config": spec.model_dump_json(),
        "table_versions": json.dumps(dict(window.table_versions), sort_keys=True),
        "window_fingerprint": window.fingerprint,
        "vocabulary_version": window.vocabulary_version,
        "share_rate": float(result.shared_N.mean()),
        "share_rates": json.dumps(rates, sort_keys=True),
        "validation_metrics": json.dumps(result.metrics, sort_keys=True),
        "code_version": code_version(),
        "created_at": datetime.now(UTC),
        "status": result.status,
        "status_reason": result.reason,
    }


if __name__ == "__main__":
    run_step(__doc__, step, add_arguments, needs_days=False)
