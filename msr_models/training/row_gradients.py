"""Gradients of embedding rows: the look-ups of a batch merged to one gradient per row, without a sort.

Suffixes: N look-ups, U rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from msr_models.modules.embedding import narrow_rows


@dataclass(frozen=True, slots=True)
class RowGradient:
    """grad_UD of rows rows_U (int64).

    compact: every row once. Not compact (a GPU, where a number of rows that depends on the batch would make it wait):
    U = N, a row stands at each of its look-ups with its whole gradient, and is_first_U marks one of them. Writing the
    same new value to a row several times is harmless; sums must count first ones only.
    """

    rows_U: Tensor
    grad_UD: Tensor
    is_first_U: Tensor | None

    def squared_norm(self) -> Tensor:
        """Sum of squares over distinct rows, scalar."""
        squares_U = self.grad_UD.square().sum(1)
        return (squares_U if self.is_first_U is None else squares_U * self.is_first_U).sum()


class RowMerger:
    """Merges look-ups of one table; keeps an int32 per row of the table as scratch."""

    def __init__(self, num_rows: int, device: torch.device) -> None:
        self._place_R = torch.empty(num_rows, dtype=torch.int32, device=device)

    def merge(self, rows_N: Tensor, grad_ND: Tensor) -> RowGradient:
        """Sum the gradients of equal rows.

        Every look-up writes its place to its row's scratch; whichever stays there stands for all look-ups of the row.
        """
        places_N = torch.arange(rows_N.shape[0], dtype=torch.int32, device=rows_N.device)
        self._place_R.scatter_(0, rows_N, places_N)
        first_N = self._place_R.index_select(0, rows_N)
        is_first_N = first_N == places_N
        # int64 from here on: look-ups and sums by int32 are several times slower, on CPUs and GPUs alike
        first_N = first_N.long()
        if rows_N.device.type != "cpu":
            summed_ND = torch.zeros_like(grad_ND).index_add_(0, first_N, grad_ND)
            return RowGradient(rows_N, narrow_rows(summed_ND, first_N), is_first_N)
        rows_U = rows_N[is_first_N]
        slot_N = (is_first_N.cumsum(0) - 1).index_select(0, first_N)
        summed_UD = grad_ND.new_zeros((rows_U.shape[0], grad_ND.shape[1])).index_add_(0, slot_N, grad_ND)
        return RowGradient(rows_U, summed_UD, None)
