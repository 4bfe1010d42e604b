"""Stored ranks of a shared-instance set, joined to a window's rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Literal

import numpy as np

from msr_models.data import lake_reader
from msr_models.data.columns import Array, day_index, find_in, numbers
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError

RankScope = Literal["global", "scenario"]
RANK_COLUMNS: dict[RankScope, str] = {"global": "rank_pct", "scenario": "rank_pct_scenario"}


def load_ranks(
    dataset: DatasetSpec,
    shared_set_id: str,
    days: Sequence[date],
    mask_days: Sequence[date],
    day_N: Array,
    instance_N: Array,
    rank_scope: RankScope,
    version: int,
) -> Array:
    """rank_N float64 of rows sorted by (day, instance_id); NaN on days that are not among `mask_days`.

    Raises SharedSetError with counts and the command that mends it where a row has no mask.
    """
    column = RANK_COLUMNS[rank_scope]
    rows = lake_reader.read_table(
        dataset.name,
        "shared_instance_masks",
        columns=["ds", "instance_id", column],
        days=mask_days,
        filters={"shared_set_id": shared_set_id},
        version=version,
    )
    day_M, instance_M, rank_M = (
        day_index(rows, days),
        numbers(rows, "instance_id", np.int64),
        numbers(rows, column, np.float64),
    )
    order = np.lexsort((instance_M, day_M))
    day_M, instance_M, rank_M = day_M[order], instance_M[order], rank_M[order]
    rank_N = np.full(len(day_N), np.nan)
    missing: dict[date, tuple[int, int]] = {}
    for day in mask_days:
        index = days.index(day)
        rows_at = slice(*np.searchsorted(day_N, [index, index + 1]))
        masks_at = slice(*np.searchsorted(day_M, [index, index + 1]))
        found = find_in(instance_M[masks_at], instance_N[rows_at])
        absent = int((found < 0).sum())
        if absent:
            missing[day] = (absent, len(found))
            continue
        rank_N[rows_at] = rank_M[masks_at][found]
    if missing:
        counts = ", ".join(f"{day}: {absent} of {rows}" for day, (absent, rows) in missing.items())
        raise SharedSetError(
            f"shared set {shared_set_id} lacks masks of {dataset.name} ({counts} rows); run: python -m "
            f"jobs.score_shared_instances --dataset {dataset.name} --from {min(missing)} --to {max(missing)}"
        )
    return rank_N
