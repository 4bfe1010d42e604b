"""Make the selector file of a set again where it was lost or damaged: its row says which search made it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pydantic import ValidationError

from lake.locations import artifact_path
from msr_models.data.window import Window, load_window
from msr_models.sets.catalogue import read_catalogue
from msr_models.sets.curves import curves_file
from msr_models.sets.export import readable_row
from msr_models.ssim.store import Scorer, file_fault, save_scorer
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError, TableError
from schemas.pipeline_spec import SearchSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchOfSet:
    """What a set was searched with; fault: what is wrong with its file."""

    row: Mapping[str, Any]
    window: Window
    spec: SearchSpec
    fault: str


def search_of_set(dataset: DatasetSpec, shared_set_id: str) -> SearchOfSet | None:
    """The search to run again; None where the set's file is the one that its row names.

    Raises SharedSetError for an unknown set, one of another lineage, settings that this version does not know, and
    where the rows that were searched are gone.
    """
    found, row = read_catalogue(dataset).compatible(shared_set_id), readable_row(dataset, shared_set_id)
    fault = file_fault(artifact_path(dataset, found.selector_uri), found.selector_sha256)
    if not fault:
        return None
    try:
        spec = SearchSpec.model_validate(row["config"])
    except ValidationError as error:
        raise SharedSetError(
            f"{fault}; this version does not know all its settings ({error}); {_instead(dataset, row)}"
        ) from error
    days = [found.first_day + timedelta(days=n) for n in range((found.last_day - found.first_day).days + 1)]
    window = _window(dataset, days, row["table_versions"])
    if window.fingerprint != row["window_fingerprint"]:
        raise SharedSetError(
            f"{fault}; the rows of {days[0]} .. {days[-1]} are not those that were searched: they were built again and "
            f"the old ones vacuumed; {_instead(dataset, row)}"
        )
    return SearchOfSet(row=row, window=window, spec=spec, fault=fault)


def put_back(dataset: DatasetSpec, again: SearchOfSet, scorer: Scorer, record: Mapping[str, Any]) -> None:
    """Save the scorer in the set's place. Raises SharedSetError, and changes nothing, where it is another one.

    Then ranks of days to come would not be those of the days that have masks.
    """
    path = artifact_path(dataset, again.row["selector_uri"])
    aside = path.parent / "again"
    try:
        sha256 = save_scorer(aside / path.name, scorer, again.spec, record)
        if sha256 != again.row["selector_sha256"]:
            raise SharedSetError(
                f"{again.fault}; its search ends in another one here (sha256 {sha256}), as it was made by other code, "
                f"on another machine, or with other --threads or --device: repeat it as it was, or "
                f"{_instead(dataset, again.row)}"
            )
        for name in (curves_file(path).name, path.name):
            (aside / name).replace(path.with_name(name))
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _window(dataset: DatasetSpec, days: list[date], versions: Mapping[str, int]) -> Window:
    try:
        return load_window(dataset, days, versions=versions)
    except (TableError, OSError):  # vacuumed, or a lake that was copied without its history: the rows may be the same
        return load_window(dataset, days)


def _instead(dataset: DatasetSpec, row: Mapping[str, Any]) -> str:
    day = date.fromisoformat(row["window_end"]) + timedelta(days=1)
    search = command("search_shared_instances", dataset, f"--ds {day}", f"--seed {row['seed'] + 1}")
    pin = command("shared_sets", dataset, "pin ID", f"--from {day}")
    return f"search with another seed and use that set: {search}, then {pin}"
