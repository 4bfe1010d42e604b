"""Compare two shared-instance sets on the instances that both have scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lake.reader import published_days, read_table
from msr_models.sets.feature_files import MASKS
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError

_COLUMNS = ["instance_id", "scenario_id", "shared_score", "is_shared"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """The instances of one scenario (-1: all) that both sets have scored.

    jaccard: of is_shared; None where neither set shares any. rank_correlation: Spearman's, of the scores; None where
    the scores of one set are constant.
    """

    scenario_id: int
    rows: int
    shared_first: int
    shared_second: int
    jaccard: float | None
    rank_correlation: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SetDifference:
    """days: those with masks of both sets. only_first, only_second: instances without a mask in the other set."""

    days: Sequence[date]
    only_first: int
    only_second: int
    overlaps: Sequence[Overlap]


def compare_sets(dataset: DatasetSpec, first: str, second: str) -> SetDifference:
    """Overlap of all common instances, then of each scenario that has some.

    Raises SharedSetError where the sets have no instance in common.
    """
    days = [published_days(dataset, MASKS, {"shared_set_id": set_id}) for set_id in (first, second)]
    only, common = [0, 0], []
    for day in sorted(days[0] | days[1]):
        masks = [_masks(dataset, set_id, day) for set_id in (first, second)]
        both = masks[0].join(masks[1].drop_columns("scenario_id"), "instance_id", join_type="inner", right_suffix="_2")
        only = [count + mask.num_rows - both.num_rows for count, mask in zip(only, masks, strict=True)]
        common.append(both)
    if not any(both.num_rows for both in common):
        score = command("score_shared_instances", dataset, "--ds DAY --shared-set ID --window exact")
        raise SharedSetError(
            f"shared sets {first} and {second} have no instance in common; score a day with both: {score}"
        )
    rows = pa.concat_tables(common)
    scenarios = pc.unique(rows["scenario_id"]).sort().to_pylist()
    return SetDifference(
        days=sorted(days[0] & days[1]),
        only_first=only[0],
        only_second=only[1],
        overlaps=[_overlap(-1, rows), *(_overlap(k, rows.filter(pc.field("scenario_id") == k)) for k in scenarios)],
    )


def rank_correlation(first_N: NDArray[np.float32], second_N: NDArray[np.float32]) -> float | None:
    """Spearman's rank correlation; None where one side is constant."""
    from scipy.stats import spearmanr  # takes most of a second to load

    if np.ptp(first_N) == 0 or np.ptp(second_N) == 0:
        return None
    return float(spearmanr(first_N, second_N).statistic)


def _overlap(scenario_id: int, rows: pa.Table) -> Overlap:
    first_N, second_N = rows["is_shared"].to_numpy(), rows["is_shared_2"].to_numpy()
    either = int((first_N | second_N).sum())
    return Overlap(
        scenario_id=scenario_id,
        rows=rows.num_rows,
        shared_first=int(first_N.sum()),
        shared_second=int(second_N.sum()),
        jaccard=int((first_N & second_N).sum()) / either if either else None,
        rank_correlation=rank_correlation(rows["shared_score"].to_numpy(), rows["shared_score_2"].to_numpy()),
    )


def _masks(dataset: DatasetSpec, set_id: str, day: date) -> pa.Table:
    return read_table(dataset, MASKS, columns=_COLUMNS, days=[day], filters={"shared_set_id": set_id})
