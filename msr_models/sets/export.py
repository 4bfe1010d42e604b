"""Export a shared-instance set to a folder: catalogue row as JSON, masks as Parquet by day."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lake.reader import published_days, read_table
from msr_models.sets.catalogue import read_catalogue
from msr_models.sets.masks import scoring_command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.tables import get_table

SETS, MASKS = "shared_instance_sets", "shared_instance_masks"
JSON_COLUMNS = ("config", "table_versions", "share_rates", "validation_metrics")


def read_row(dataset: DatasetSpec, shared_set_id: str) -> dict[str, Any]:
    """The catalogue row, JSON columns parsed. Raises SharedSetError for an unknown id."""
    read_catalogue(dataset).named(shared_set_id)
    (row,) = read_table(dataset, SETS, filters={"shared_set_id": shared_set_id}).to_pylist()
    parsed: dict[str, Any] = row | {name: json.loads(row[name]) for name in JSON_COLUMNS}
    return parsed


def export_set(dataset: DatasetSpec, shared_set_id: str, out: Path) -> tuple[int, int]:
    """Write `catalogue.json` and `masks/ds=.../masks.parquet` to the new folder `out`; returns (days, rows).

    Written aside and renamed: a folder that is there is whole. Raises SharedSetError for an unknown id, a set without
    masks, or where `out` has files.
    """
    row = read_row(dataset, shared_set_id)
    where = {"shared_set_id": shared_set_id}
    days = sorted(published_days(dataset, MASKS, where))
    if not days:
        mend = _mend(dataset, shared_set_id)
        raise SharedSetError(f"shared set {shared_set_id} has no masks in {dataset.name}/{MASKS}; {mend}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SharedSetError(f"{out} exists and is not an empty folder; give --out a new one")
    aside = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}")
    columns = [name for name in get_table(MASKS).column_names if name != "ds"]
    rows = 0
    try:
        for day in days:
            masks = read_table(dataset, MASKS, columns=columns, days=[day], filters=where)
            rows += _write_day(masks.sort_by("instance_id"), aside / "masks" / f"ds={day}")
        text = json.dumps(row, indent=1, sort_keys=True, default=str)
        (aside / "catalogue.json").write_text(text + "\n", encoding="utf-8")
        aside.rename(out.absolute())
    except OSError as error:
        raise SharedSetError(f"{out} cannot be written ({error}); give --out another folder") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return len(days), rows


def _mend(dataset: DatasetSpec, set_id: str) -> str:
    """How a set without masks gets some."""
    catalogue = read_catalogue(dataset)
    found = catalogue.named(set_id)
    if found.status != "accepted":
        return f"it is {found.status} ({found.status_reason}) and gets none any more: export another one"
    if not catalogue.is_compatible(found):
        return (
            f"it is of vocabulary lineage {found.lineage!r}, {dataset.name} is of {dataset.lineage!r}: it gets none "
            "any more; export another one"
        )
    return f"run: {scoring_command(dataset, set_id, [found.window_start, found.window_end])}"


def _write_day(masks: pa.Table, folder: Path) -> int:
    folder.mkdir(parents=True)
    pq.write_table(masks, folder / "masks.parquet")
    return int(masks.num_rows)
