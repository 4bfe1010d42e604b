"""Restore a set's lost or damaged selector file by repeating the search that its catalogue row records."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lake.locations import artifact_path
from msr_models.data.window import Window, load_window
from msr_models.sets.catalogue import read_catalogue
from msr_models.sets.curves import curves_file
from msr_models.ssim.store import Scorer, file_fault, save_scorer
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError, TableError
from schemas.pipeline_spec import SearchSpec
from schemas.tables.shared_instance_sets import SharedSet


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchToRepeat:
    """The rows and settings of a set's search; fault: what is wrong with the set's selector file."""

    row: SharedSet
    window: Window
    spec: SearchSpec
    fault: str


def search_to_repeat(dataset: DatasetSpec, shared_set_id: str) -> SearchToRepeat | None:
    """The search that made the set; None where its selector file is intact.

    Raises SharedSetError for an unknown set, one of another vocabulary lineage, settings unknown to this version, and
    where the rows that were searched are gone.
    """
    row = read_catalogue(dataset).compatible(shared_set_id)
    fault = file_fault(artifact_path(dataset, row.selector_uri), row.selector_sha256)
    if not fault:
        return None
    try:
        spec = SearchSpec.model_validate_json(row.config)
    except ValidationError as error:
        raise SharedSetError(
            f"{fault}; this version does not know all its settings ({error}); {_instead(dataset, row)}"
        ) from error
    days = [row.first_day + timedelta(days=n) for n in range((row.last_day - row.first_day).days + 1)]
    window = _window(dataset, days, json.loads(row.table_versions))
    window = replace(window, scenario_names=row.scenario_names)  # others were appended since
    if window.fingerprint != row.window_fingerprint:
        raise SharedSetError(
            f"{fault}; the rows of {days[0]} .. {days[-1]} are not those that were searched: they were built again and "
            f"the old ones vacuumed; {_instead(dataset, row)}"
        )
    return SearchToRepeat(row=row, window=window, spec=spec, fault=fault)


def restore_file(dataset: DatasetSpec, repeated: SearchToRepeat, scorer: Scorer, record: Mapping[str, Any]) -> None:
    """Store the repeated search's scorer as the set's selector file.

    Raises SharedSetError, and changes nothing, where its checksum is not the recorded one: ranks of days to come would
    not be comparable with those that the set's masks have.
    """
    row = repeated.row
    path = artifact_path(dataset, row.selector_uri)
    path.parent.mkdir(parents=True, exist_ok=True)  # the whole folder may be lost
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=path.parent) as folder:
        fresh = Path(folder) / path.name
        sha256 = save_scorer(fresh, scorer, repeated.spec, record)
        if sha256 != row.selector_sha256:
            raise SharedSetError(
                f"{repeated.fault}; its search gives another selector here (sha256 {sha256}): it was made by other "
                "code, on another machine, with another embedding_dim of a field, --threads or --device; repeat it as "
                "it was, or "
                f"{_instead(dataset, row)}"
            )
        curves_file(fresh).replace(curves_file(path))
        fresh.replace(path)


def _window(dataset: DatasetSpec, days: list[date], versions: Mapping[str, int]) -> Window:
    try:
        return load_window(dataset, days, versions=versions)
    except (TableError, OSError):  # vacuumed, or a lake that was copied without its history: the rows may be the same
        return load_window(dataset, days)


def _instead(dataset: DatasetSpec, row: SharedSet) -> str:
    day = row.last_day + timedelta(days=1)
    search = command("search_shared_instances", dataset, f"--ds {day}", f"--seed {row.seed + 1}")
    pin = command("shared_sets", dataset, "pin ID", f"--from {day}")
    return f"search with another seed and use that set: {search}, then {pin}"
