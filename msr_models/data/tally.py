"""Counts over rows that are read once, in pieces: what a streamed window knows of its labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from msr_models.data.columns import sums_in_order
from msr_models.data.further import count_further
from msr_models.data.reader import Rows


class Tally:
    """labels_K2 int64: rows per scenario and label; weights_K2 float64: sums of their weights, the counts where there
    are none; further_J2K: as `TrainingData.further_counts`. No bit depends on the order of a day's rows.
    """

    def __init__(self, num_scenarios: int, num_further: int, *, has_weights: bool) -> None:
        self.has_weights = has_weights
        self.labels_K2 = np.zeros((num_scenarios, 2), dtype=np.int64)
        self._sums_K2 = np.zeros((num_scenarios, 2))
        kind = torch.float64 if has_weights else torch.int64
        self.further_J2K: Tensor = torch.zeros((num_further, 2, num_scenarios), dtype=kind)
        self._of_day: list[Rows] = []

    @property
    def weights_K2(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Sums of weights."""
        return self._sums_K2 if self.has_weights else self.labels_K2.astype(np.float64)

    def add(self, rows: Rows) -> None:
        """A piece of the day."""
        cells = self.labels_K2.size
        self.labels_K2 += np.bincount(_cells(rows), minlength=cells).reshape(-1, 2)
        if self.has_weights:
            self._of_day.append(rows)
        elif len(self.further_J2K):
            scenario_N, label_N, further_NJ = map(torch.tensor, (rows.scenario_N, rows.label_N, rows.further_NJ))
            self.further_J2K += count_further(scenario_N, label_N, further_NJ, len(self.labels_K2))

    def end_day(self) -> None:
        """All pieces of the day have been added."""
        pieces, self._of_day = self._of_day, []
        if not pieces:
            return
        cell_N = np.concatenate([_cells(rows) for rows in pieces])
        weight_N = np.concatenate([rows.weight_N for rows in pieces if rows.weight_N is not None])
        self._sums_K2 += sums_in_order(cell_N, weight_N, self.labels_K2.size).reshape(-1, 2)
        if len(self.further_J2K):
            further_NJ = torch.from_numpy(np.concatenate([rows.further_NJ for rows in pieces]))
            scenario_N, label_N = torch.from_numpy(cell_N // 2), torch.from_numpy(cell_N % 2)
            num_scenarios = len(self.labels_K2)
            self.further_J2K += count_further(
                scenario_N, label_N, further_NJ, num_scenarios, torch.from_numpy(weight_N)
            )


def _cells(rows: Rows) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return 2 * rows.scenario_N.astype(np.int64) + (rows.label_N > 0.5)
