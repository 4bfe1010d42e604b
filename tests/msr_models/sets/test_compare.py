"""Overlap and rank correlation of two sets against hand-made masks and a plain implementation."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr

from lake.arrow_writer import overwrite_partition
from msr_models.sets.compare import compare_sets, rank_correlation
from msr_models.sets.describe import difference_lines
from schemas.dataset_spec import DatasetSpec
from tests.support.tiny_lake import tiny_dataset

DAY, NEXT = date(2026, 1, 2), date(2026, 1, 3)


def write(spec: DatasetSpec, set_id: str, day: date, rows: dict[int, tuple[int, float]]) -> None:
    """rows: instance -> (scenario, score); what scores above one half is shared."""
    score = np.array([score for _, score in rows.values()], dtype=np.float32)
    masks = {
        "shared_set_id": [set_id] * len(rows),
        "ds": [str(day)] * len(rows),
        "instance_id": list(rows),
        "scenario_id": pa.array([scenario for scenario, _ in rows.values()], pa.int32()),
        "shared_score": score,
        "rank_pct": [0.5] * len(rows),
        "rank_pct_scenario": [0.5] * len(rows),
        "is_shared": score > 0.5,
        "features_files": ["files"] * len(rows),
    }
    partition = {"shared_set_id": set_id, "ds": str(day)}
    overwrite_partition(pa.table(masks), spec, "shared_instance_masks", partition)


def test_two_sets_by_hand(lake: Path) -> None:
    spec = tiny_dataset()
    write(spec, "a", DAY, {1: (0, 0.9), 2: (0, 0.8), 3: (1, 0.1), 4: (1, 0.2), 7: (1, 0.6)})
    write(spec, "b", DAY, {9: (0, 0.9), 4: (1, 0.4), 3: (1, 0.7), 2: (0, 0.3), 1: (0, 0.6)})
    write(spec, "a", NEXT, {1: (2, 0.2)})
    found = compare_sets(spec, "a", "b")
    assert (found.only_first, found.only_second) == (2, 1), "7 and the next day's 1; 9"
    assert list(found.days) == [DAY]
    every, home, feed = found.overlaps
    assert [part.scenario_id for part in found.overlaps] == [-1, 0, 1]
    assert (every.rows, every.shared_first, every.shared_second) == (4, 2, 2)
    assert every.jaccard == pytest.approx(1 / 3)
    assert every.rank_correlation == pytest.approx(spearmanr([0.9, 0.8, 0.1, 0.2], [0.6, 0.3, 0.7, 0.4]).statistic)
    assert (home.rows, home.jaccard) == (2, 0.5) and home.rank_correlation == pytest.approx(1.0)
    assert (feed.rows, feed.jaccard) == (2, 0.0) and feed.rank_correlation == pytest.approx(-1.0)
    lines = difference_lines(spec, "a", "b", found)
    assert "4 in both (1 days), 2 only in the first, 1 only in the second" in lines[2]
    assert lines[-1].split() == ["feed", "2", "0", "1", "0.0000", "-1.0000"]


def test_a_set_equals_itself_and_nothing_shared_has_no_overlap(lake: Path) -> None:
    spec = tiny_dataset()
    write(spec, "a", DAY, {1: (0, 0.1), 2: (0, 0.3)})
    (every, _) = compare_sets(spec, "a", "a").overlaps
    assert every.rank_correlation == pytest.approx(1.0) and every.jaccard is None


def plain_spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of mid-ranks, counted one by one."""
    ranks = [[np.sum(x < value) + np.sum(x == value) / 2 for value in x] for x in (first, second)]
    return float(np.corrcoef(ranks)[0, 1])


def test_rank_correlation_of_ties_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 20, 500).astype(np.float32) for _ in range(2))
    second += first
    assert rank_correlation(first, second) == pytest.approx(plain_spearman(first, second), abs=1e-12)
    assert rank_correlation(first, np.zeros(500, dtype=np.float32)) is None
