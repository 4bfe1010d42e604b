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


def stale_days(
    dataset: DatasetSpec, shared_set_id: str, days: Sequence[date], versions: Mapping[str, int] | None = None
) -> list[date]:
    """The days without masks of the set that were made from the features at these versions (default: the newest)."""
    source = lake_reader.open_dataset(dataset, MASKS, [COLUMN], (versions or {}).get(MASKS))
    stale = []
    for day, files in feature_files(dataset, days, versions).items():
        of_day = lake_reader.condition([day], {"shared_set_id": shared_set_id})
        # A day is written in one transaction: its first row stands for all
        if source.head(1, columns=[COLUMN], filter=of_day)[COLUMN].to_pylist() != [files]:
            stale.append(day)
    return stale
