"""The sums over processes that a training step of a model takes part in, without a second process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.models.base import MultiScenarioModel
from msr_models.modules import partitioned_norm


def collectives_of(model: MultiScenarioModel, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Forward and backward sums of one step, by their shape, in order."""
    seen: list[str] = []

    class Sum(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, sums: Tensor) -> Tensor:
            seen.append(f"forward {tuple(sums.shape)}")
            return sums.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            seen.append(f"backward {tuple(gradients[0].shape)}")
            return gradients[0]

    monkeypatch.setattr(partitioned_norm, "_over_processes", Sum.apply)
    model.train().visit(batch).logits_V.sum().backward()
    assert any(line.startswith("forward") for line in seen)
    return seen
