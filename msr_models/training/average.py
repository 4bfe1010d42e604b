"""Exponential moving average of the weights over steps, without a start: the first step's weights count in full.

avg_t = avg_{t-1} + c_t (w_t - avg_{t-1}), c_t = (1 - d) / (1 - d^t): the mean of w_1 .. w_t with weights d^{t-i}. Late
steps of a run jump around a minimum that their mean lies closer to (Polyak & Juditsky 1992). A weight that no step
changes is its own average, bit for bit.

Embedding rows are as lazy as their steps: a row that stayed as it is from step s to t moves its average by a factor
that telescopes, avg_t = w + (avg_s - w) d^{t-s} (1 - d^s) / (1 - d^t).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from msr_models.modules.embedding import narrow_rows


class RowAverage:
    """Averages of an embedding table's rows; steps_R: the step up to which each row's average is made."""

    def __init__(self, weight: Tensor, decay: float) -> None:
        self.decay = decay
        self.average_RD = weight.detach().clone()
        self.steps_R = torch.zeros(weight.shape[0], dtype=torch.float64, device=weight.device)

    def move(self, rows_U: Tensor, before_UD: Tensor, after_UD: Tensor, steps: Tensor) -> None:
        """Rows that step number `steps` (a scalar, from 1) took from `before` to `after`; a row may stand twice."""
        average_UD = narrow_rows(self.average_RD, rows_U)
        factor_U = self._factor(self.steps_R.index_select(0, rows_U), steps - 1)
        average_UD = torch.lerp(before_UD, average_UD, factor_U[:, None].to(before_UD.dtype))
        average_UD = torch.lerp(average_UD, after_UD, _share(self.decay, steps).to(after_UD.dtype))
        self.average_RD.index_copy_(0, rows_U, average_UD)
        self.steps_R.index_copy_(0, rows_U, steps.expand(len(rows_U)).to(self.steps_R.dtype))

    def catch_up(self, weight_RD: Tensor, steps: Tensor) -> None:
        """Bring every row's average to step `steps`."""
        factor_R = self._factor(self.steps_R, steps)
        self.average_RD.copy_(torch.lerp(weight_RD, self.average_RD, factor_R[:, None].to(weight_RD.dtype)))
        self.steps_R.copy_(steps.expand_as(self.steps_R))

    def _factor(self, since: Tensor, steps: Tensor) -> Tensor:
        """What is left of average - weight; 0 for a row that no step has named, whose average is its weight."""
        left = self.decay ** (steps - since) * (1 - self.decay**since) / (1 - self.decay ** steps.clamp(min=1))
        return torch.where(since > 0, left, 0.0)


class WeightAverage:
    """Averages of the other parameters, and of tables by `rows`."""

    def __init__(self, parameters: Sequence[Tensor], tables: Sequence[tuple[Tensor, RowAverage]], decay: float) -> None:
        self.decay = decay
        self.parameters, self.tables = list(parameters), list(tables)
        self.averages = [p.detach().clone() for p in self.parameters]

    def move(self, steps: Tensor) -> None:
        """After step number `steps` (from 1) of the parameters; nothing waits for the device."""
        if self.parameters:
            change = torch._foreach_sub([p.detach() for p in self.parameters], self.averages)
            torch._foreach_mul_(change, _share(self.decay, steps).float())
            torch._foreach_add_(self.averages, change)

    def swap(self, steps: Tensor) -> list[Tensor]:
        """Give the parameters their averages after `steps`; returns what they were, for `restore`."""
        for weight, rows in self.tables:
            rows.catch_up(weight.detach(), steps)
        weights = [*self.parameters, *(weight for weight, _ in self.tables)]
        before = [weight.detach().clone() for weight in weights]
        for weight, average in zip(
            weights, [*self.averages, *(rows.average_RD for _, rows in self.tables)], strict=True
        ):
            weight.detach().copy_(average)
        return before

    def restore(self, before: Sequence[Tensor]) -> None:
        """Inverse of `swap`."""
        for weight, value in zip([*self.parameters, *(w for w, _ in self.tables)], before, strict=True):
            weight.detach().copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs, on the CPU."""
        rows = [(table.average_RD.cpu(), table.steps_R.cpu()) for _, table in self.tables]
        return {"averages": [average.cpu() for average in self.averages], "rows": rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.copy_(saved)
        for (_, table), (average_RD, steps_R) in zip(self.tables, state["rows"], strict=True):
            table.average_RD.copy_(average_RD)
            table.steps_R.copy_(steps_R)


def _share(decay: float, steps: Tensor) -> Tensor:
    """c_t."""
    return (1 - decay) / (1 - decay**steps)
