"""Blocks: every way of grouping gives the same ones, and they are what a loop over dictionaries counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from msr_models.evaluation import blocks as module
from msr_models.evaluation.blocks import Blocks, dense_ids, make_blocks, narrow_ids, rank_rows

GROUPS = 7


def rows(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    score = rng.integers(-5, 6, 400) / 8
    return score, rng.integers(0, 2, 400), rng.integers(0, GROUPS - 1, 400)  # the last group has no rows


def grouped(way: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Blocks, str]:
    """(blocks of the rows of seed 0, the functions that made them) with the limits set so that `way` is taken."""
    monkeypatch.setattr(module, "TABLE_ENTRIES_PER_ROW", 10**6 if way == "counted" else 0)
    monkeypatch.setattr(module, "KEY_BITS", 6 if way == "dense" else 63)
    called: list[str] = []

    def watched(name: str, made: Callable[..., Blocks]) -> Callable[..., Blocks]:
        def watching(*arguments: object) -> Blocks:
            called.append(name)
            return made(*arguments)

        return watching

    for name in ("_counted_blocks", "_sorted_blocks"):
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    score, label, group = rows(0)
    return make_blocks(rank_rows(score, label), group, GROUPS), "".join(called)


@pytest.mark.parametrize("way", ["counted", "sorted", "dense"])
def test_blocks_are_the_rows_of_a_group_and_a_score(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    got, called = grouped(way, monkeypatch)
    assert called == ("_counted_blocks" if way == "counted" else "_sorted_blocks")
    score, label, group = rows(0)
    want = Counter(zip(group.tolist(), score.tolist(), strict=True))
    positives = Counter(zip(group[label == 1].tolist(), score[label == 1].tolist(), strict=True))
    groups, scores = got.of_group_B(got.group_S), rank_rows(score, label).score_U[got.rank_B()]
    keys = list(zip(groups.tolist(), scores.tolist(), strict=True))
    assert keys == sorted(want)
    assert got.rows_B.tolist() == [want[k] for k in keys]
    assert got.positives_B.tolist() == [positives[k] for k in keys]
    assert got.group_S.tolist() == list(range(GROUPS - 1))
    assert got.total_S(got.rows_B).tolist() == np.bincount(group).tolist()


def test_wide_group_ids_beside_many_scores_are_made_dense() -> None:
    score, label, group = rows(1)
    want = make_blocks(rank_rows(score, label), group, GROUPS)
    for factor, num_groups in ((2**40, 2**43), (2**59, 2**62)):
        got = make_blocks(rank_rows(score, label), group * factor, num_groups)
        assert (got.group_S == want.group_S * factor).all() and (got.rank_B() == want.rank_B()).all()
        assert (got.rows_B == want.rows_B).all() and (got.positives_B == want.positives_B).all()


def test_totals_do_not_overflow_32_bits() -> None:
    got = make_blocks(rank_rows(np.arange(4.0), np.ones(4)), np.array([0, 0, 1, 1]), 2)
    assert got.total_S(np.full(4, 2**31 - 1, dtype=np.int32)).tolist() == [2**32 - 2] * 2


def test_ranks_are_exact_and_nan_is_one_score() -> None:
    score = np.array([np.nan, 1.0, np.nextafter(1.0, 2), -np.inf, np.nan, -0.0, 0.0, np.inf, 1.0])
    ranked = rank_rows(score, np.zeros(9))
    assert ranked.rank_N.tolist() == [5, 2, 3, 0, 5, 1, 1, 4, 2]
    np.testing.assert_array_equal(ranked.score_U[ranked.rank_N], score)


@pytest.mark.parametrize("low, high", [(0, 50), (-30, 20), (10**12, 10**12 + 40), (-(2**63), 2**63 - 1)])
def test_dense_ids_are_those_of_unique(low: int, high: int) -> None:
    ids = np.random.default_rng(0).integers(low, high, 100, dtype=np.int64, endpoint=True)
    ids[:2] = low, high
    want_U, want_N = np.unique(ids, return_inverse=True)
    got_N, count = dense_ids(ids)
    assert got_N.tolist() == want_N.tolist() and count == len(want_U)
    narrow = narrow_ids(ids)
    assert narrow.min() >= 0 and narrow.max() < 2 * len(ids)
    assert len(set(zip(ids.tolist(), narrow.tolist(), strict=True))) == len(set(narrow.tolist())) == count
