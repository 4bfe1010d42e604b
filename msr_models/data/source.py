"""Where a trainer's batches come from: rows of a window in memory, or (streamed.py) buckets of rows on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.order import epoch_order, num_batches
from msr_models.data.window import Window


class TrainingData(Protocol):
    """What a trainer consumes: rows in an order that depends on their content, the seed and the epoch alone."""

    @property
    def num_rows(self) -> int:
        """Rows of one epoch, over all processes."""
        ...

    @property
    def num_scenarios(self) -> int:
        """K."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the batches are made."""
        ...

    def batches(
        self, batch_size: int, seed: int, epoch: int, *, first_batch: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        """The epoch's batches from `first_batch` on, bit-identical to those of the whole epoch; the last is shorter.

        Of each batch this process gets the rows [rank::world], which may be none in the last one.
        """
        ...

    def require_both_labels(self) -> None:
        """Raises TrainingError where all labels are of one class."""
        ...

    def label_counts(self) -> tuple[Tensor, Tensor]:
        """(rows, rows with label 1) of every scenario, [K] int64 each, over all processes."""
        ...

    def further_counts(self) -> Tensor:
        """Rows with each further label, and those of them without the main one, of every scenario, [J, 2, K] int64."""
        ...


class ResidentRows(TrainingData):
    """Some rows of a window in memory, on the window's device."""

    def __init__(self, window: Window, rows: Tensor) -> None:
        self.window = window
        self.rows = rows

    @property
    def num_rows(self) -> int:
        return len(self.rows)

    @property
    def num_scenarios(self) -> int:
        return self.window.num_scenarios

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def batches(
        self, batch_size: int, seed: int, epoch: int, *, first_batch: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[Batch]:
        ordered = self.rows.index_select(0, epoch_order(self.num_rows, seed, epoch).to(self.rows.device))
        counts = self._shared_counts(ordered, batch_size) if world == 1 else None
        for number in range(first_batch, num_batches(self.num_rows, batch_size)):
            rows = ordered[number * batch_size : (number + 1) * batch_size][rank::world]
            batch = self.window.batch(rows)
            yield batch if counts is None else replace(batch, num_shared=counts[number])

    def _shared_counts(self, ordered: Tensor, batch_size: int) -> list[int] | None:
        """Shared rows of every batch, read from the GPU once per epoch instead of once per step."""
        if ordered.device.type == "cpu":
            return None
        shared = F.pad(self.window.shared_N.index_select(0, ordered), (0, -len(ordered) % batch_size))
        counts: list[int] = shared.view(-1, batch_size).sum(1).tolist()
        return counts

    def with_ratio(self, ratio: float) -> ResidentRows:
        """The same rows, shared by `Window.with_ratio`."""
        return ResidentRows(self.window.with_ratio(ratio), self.rows)

    def require_both_labels(self) -> None:
        self.window.require_both_labels(self.rows)

    def label_counts(self) -> tuple[Tensor, Tensor]:
        return self.window.label_counts(self.rows)

    def further_counts(self) -> Tensor:
        return self.window.further_counts(self.rows)
