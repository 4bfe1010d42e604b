"""Mid-ranks of scores among a reference sample: comparable across sets, searches and days."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rank_pct(scores_N: NDArray[np.float32], sorted_reference_M: NDArray[np.float32]) -> NDArray[np.float64]:
    """(#lower + #equal / 2 + 1/2) / (M + 1) of each score among M ascending reference scores; always inside (0, 1).

    An empty reference (a scenario without window rows) ranks everything at 1/2.
    """
    # By hand: scipy ranks a sample within itself, not scores within another sample
    lower_N = np.searchsorted(sorted_reference_M, scores_N, side="left")
    not_higher_N = np.searchsorted(sorted_reference_M, scores_N, side="right")
    return ((lower_N + not_higher_N) / 2 + 0.5) / (len(sorted_reference_M) + 1)
