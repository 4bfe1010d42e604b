"""The files that a day's masks were made from, so that masks of features that were rebuilt since are recognised.

A mask is a function of its row: the ids in scenario_features and the behaviours in behaviour_sequences. Writers never
reuse a file name, so the names of a day's files stand for their content. Compaction renames files too: the day is then
scored once more, with the same masks as a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from lake import reader as lake_reader
from schemas.dataset_spec import DatasetSpec
from schemas.text import short_digest

TABLES = ("scenario_features", "behaviour_sequences")
MASKS, COLUMN = "shared_instance_masks", "features_files"


def feature_files(
    dataset: DatasetSpec, days: Sequence[date], versions: Mapping[str, int] | None = None
) -> dict[date, str]:
    """Day -> 16 hex digits over the names of its files, at these versions of the tables (default: the newest).

    Raises TableError where a table or a version of it does not exist.
    """
    names_D: dict[date, list[str]] = {day: [] for day in days}
    wanted = pa.array([str(day) for day in days], pa.string())
    for table in TABLES:
        opened = lake_reader.open_table(dataset, table, (versions or {}).get(table))
        files = pa.table(opened.get_add_actions(flatten=True)).select(["partition.ds", "path"])
        for day, path in zip(*files.filter(pc.is_in(files["partition.ds"], wanted)).to_pydict().values(), strict=True):
            names_D[date.fromisoformat(day)].append(f"{table}/{path}")
    return {day: short_digest("\n".join(sorted(names))) for day, names in names_D.items()}


def mask_files(
    dataset: DatasetSpec, shared_set_id: str, days: Sequence[date], version: int | None = None
) -> dict[date, str | None]:
    """Day -> its `feature_files` at the time the set's masks were made; None for a day without masks."""
    source = lake_reader.open_dataset(dataset, MASKS, [COLUMN], version)
    filters = {"shared_set_id": shared_set_id}
    # A day is written in one transaction: its first row speaks for all
    heads = {day: source.head(1, columns=[COLUMN], filter=lake_reader.condition([day], filters)) for day in days}
    return {day: rows[COLUMN][0].as_py() if rows.num_rows else None for day, rows in heads.items()}


def stale_days(
    dataset: DatasetSpec, shared_set_id: str, days: Sequence[date], versions: Mapping[str, int] | None = None
) -> list[date]:
    """The days whose masks under the set were not made from the features at these versions (default: the newest)."""
    made_from = mask_files(dataset, shared_set_id, days, (versions or {}).get(MASKS))
    return [day for day, files in feature_files(dataset, days, versions).items() if made_from[day] != files]
