"""How well a shuffle mixes, relative to a uniform permutation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def mixing(batches: Iterable[Tensor]) -> float:
    """Variance of a value's batch means, relative to its expectation under a uniform shuffle.

    batches: values [B] per batch of a quantity that rises in file order, such as a row's position. About 1: batches are
    uniform samples; about B: rows stay with their neighbours (no shuffle, or a permutation of whole batches).
    """
    counts, sums, squares = [], [], []
    for value_B in batches:
        value_B = value_B.double()
        counts.append(len(value_B))
        sums.append(value_B.sum())
        squares.append((value_B**2).sum())
    count_b, sum_b = torch.tensor(counts, dtype=torch.float64), torch.stack(sums)
    rows = count_b.sum()
    mean = sum_b.sum() / rows
    variance = torch.stack(squares).sum() / rows - mean**2
    # Without replacement: Var(mean of b rows) = variance / b * (N - b) / (N - 1); batches are weighted by their rows.
    expected = (variance * (rows - count_b) / (rows - 1)).sum()
    between = (count_b * (sum_b / count_b - mean) ** 2).sum()
    return float(between / expected)
