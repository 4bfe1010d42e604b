"""How well a shuffle mixes: batches against those of a uniform permutation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def mixing(batches: Iterable[Tensor]) -> float:
    """Between-batch variance of a value's mean over what a uniform shuffle gives in expectation.

    batches: per batch the values [B] of something that the order of files follows, such as a row's position or day.
    About 1: batches are uniform samples. A permutation of whole batches gives about B, no shuffle at all the same.
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
    # Without replacement: Var(mean of b rows) = variance / b * (N - b) / (N - 1); each batch counts by its rows.
    expected = (variance * (rows - count_b) / (rows - 1)).sum()
    between = (count_b * (sum_b / count_b - mean) ** 2).sum()
    return float(between / expected)
