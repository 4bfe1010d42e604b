"""Digests of rows: order and pieces do not matter, every value does."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from msr_models.data.digest import RowDigest, mix, mix_int, row_keys

ROWS = 500
INSTANCE_N = np.random.default_rng(0).permutation(ROWS).astype(np.int64) - 100
SLOTS_NS = np.random.default_rng(1).integers(0, 50, (ROWS, 3), dtype=np.int32)
RANK_N = np.random.default_rng(2).random(ROWS)
DS = date(2026, 1, 2)


def digest(order: np.ndarray, slots: np.ndarray = SLOTS_NS, rank: np.ndarray = RANK_N, pieces: int = 1) -> str:
    made = RowDigest()
    for part in np.array_split(order, pieces):
        made.add(row_keys(INSTANCE_N[part], DS), [slots[part], rank[part]])
    return made.text()


def test_mix_is_the_same_for_numbers_and_arrays() -> None:
    values = [0, 1, 2**63, 2**64 - 1, 12345]
    assert mix(np.array(values, dtype=np.uint64)).tolist() == [mix_int(v) for v in values]
    assert mix_int(0) == 0xE220A8397B1DCDAF  # first value of splitmix64 with seed 0


def test_keys_tell_rows_and_days_apart() -> None:
    keys = np.concatenate([row_keys(INSTANCE_N, date(2026, 1, d)) for d in range(1, 20)])
    assert len(np.unique(keys)) == len(keys)


def test_order_and_pieces_do_not_matter() -> None:
    rows = np.arange(ROWS)
    assert digest(rows) == digest(rows[::-1]) == digest(rows, pieces=7)


@pytest.mark.parametrize("row", [0, ROWS - 1])
def test_every_value_matters(row: int) -> None:
    rows, before = np.arange(ROWS), digest(np.arange(ROWS))
    slots = SLOTS_NS.copy()
    slots[row, 2] += 1
    rank = RANK_N.copy()
    rank[row] = np.nextafter(rank[row], 1)
    assert before not in (digest(rows, slots=slots), digest(rows, rank=rank), digest(np.delete(rows, row)))


def test_values_belong_to_their_row_and_column() -> None:
    rows = np.arange(ROWS)
    assert digest(rows) not in (digest(rows, slots=SLOTS_NS[:, ::-1].copy()), digest(rows, rank=RANK_N[::-1].copy()))
