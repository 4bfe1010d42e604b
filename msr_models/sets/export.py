"""Export a shared-instance set to a folder: catalogue row as JSON, masks as Parquet by day."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lake.files import replacing
from lake.reader import published_days, read_table
from msr_models.sets.catalogue import read_catalogue
from msr_models.sets.feature_files import MASKS
from msr_models.sets.masks import scoring_command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.tables import get_table

JSON_COLUMNS = ("config", "table_versions", "share_rates", "validation_metrics")


def readable_row(dataset: DatasetSpec, shared_set_id: str) -> dict[str, Any]:
    """The catalogue row with its JSON columns parsed. Raises SharedSetError for an unknown id."""
    row = asdict(read_catalogue(dataset).named(shared_set_id))
    return row | {name: json.loads(row[name]) for name in JSON_COLUMNS}


def export_set(dataset: DatasetSpec, shared_set_id: str, out: Path) -> tuple[int, int]:
    """Write `catalogue.json` and `masks/ds=.../masks.parquet` to the new folder `out`; returns (days, rows).

    The folder appears only once it is complete. Raises SharedSetError for an unknown id, a set without masks, or where
    `out` has files.
    """
    row = readable_row(dataset, shared_set_id)
    where = {"shared_set_id": shared_set_id}
    days = sorted(published_days(dataset, MASKS, where))
    if not days:
        remedy = _remedy(dataset, shared_set_id)
        raise SharedSetError(f"shared set {shared_set_id} has no masks in {dataset.name}/{MASKS}; {remedy}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SharedSetError(f"{out} exists and is not an empty folder; give --out a new one")
    columns = [name for name in get_table(MASKS).column_names if name != "ds"]
    rows = 0
    try:
        with replacing(out.absolute()) as folder:
            for day in days:
                masks = read_table(dataset, MASKS, columns=columns, days=[day], filters=where)
                (folder / "masks" / f"ds={day}").mkdir(parents=True)
                pq.write_table(masks.sort_by("instance_id"), folder / "masks" / f"ds={day}" / "masks.parquet")
                rows += masks.num_rows
            text = json.dumps(row, indent=1, sort_keys=True, default=str)
            (folder / "catalogue.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SharedSetError(f"{out} cannot be written ({error}); give --out another folder") from error
    return len(days), rows


def _remedy(dataset: DatasetSpec, set_id: str) -> str:
    """How to get masks of a set that has none."""
    catalogue = read_catalogue(dataset)
    found = catalogue.named(set_id)
    if found.status != "accepted":
        return f"it is {found.status} ({found.status_reason}) and gets no more masks; export another set"
    if not catalogue.is_compatible(found):
        return (
            f"its vocabulary lineage is {found.lineage!r}, that of {dataset.name} is {dataset.lineage!r}: it gets no "
            "more masks; export another set"
        )
    return f"run: {scoring_command(dataset, set_id, [found.first_day, found.last_day])}"
