"""A layer that all scenarios share, and the initial weights of all modules."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dense(nn.Module):
    """x W + b; W Xavier-uniform, b zero.

    parts: number of layers side by side that read the same input, each of width out_width / parts.
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
    """Fill `weight` in place with U(-a, a), a = √(6 / fans); fans: number of inputs plus outputs of one layer."""
    bound = math.sqrt(6.0 / fans)
    with torch.no_grad():
        weight.uniform_(-bound, bound, generator=generator)


def xavier_parameter(shape: tuple[int, ...], fans: int, generator: torch.Generator) -> nn.Parameter:
    """A new parameter with `xavier_uniform_` weights."""
    parameter = nn.Parameter(torch.empty(shape))
    xavier_uniform_(parameter, fans, generator)
    return parameter
