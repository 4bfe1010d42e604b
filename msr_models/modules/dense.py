"""One layer for all scenarios, with weights from a given generator."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dense(nn.Module):
    """x W + b. Initial weights: Xavier-uniform from `generator`, bias zero.

    parts: the output is that many layers of the same input side by side, each of out_width / parts.
    """

    def __init__(self, in_width: int, out_width: int, generator: torch.Generator, parts: int = 1) -> None:
        super().__init__()
        self.weight_IO = nn.Parameter(torch.empty(in_width, out_width))
        self.bias_O = nn.Parameter(torch.zeros(out_width))
        xavier_uniform_(self.weight_IO, in_width + out_width // parts, generator)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, self.weight_IO.t(), self.bias_O)


def xavier_uniform_(weight: Tensor, fans: int, generator: torch.Generator) -> None:
    """Fill `weight` in place; fans: inputs and outputs of one layer together."""
    bound = math.sqrt(6.0 / fans)
    with torch.no_grad():
        weight.uniform_(-bound, bound, generator=generator)
