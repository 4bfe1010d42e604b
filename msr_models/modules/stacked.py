"""Scenario parts as stacked weights [K, in, out] with routed products: no Python loop over scenarios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.routing import Routing

# The grouped product wants rows of whole 16 bytes.
_ALIGN_BYTES = 16


def routed_product(x_VI: Tensor, weight_KIO: Tensor, ends_K: Tensor) -> Tensor:
    """out[v] = x[v] @ weight[scenario of v], for visits sorted by scenario; ends_K as in Routing. Returns [V, O]."""
    if x_VI.shape[0] == 0:
        return x_VI.new_zeros((0, weight_KIO.shape[2]))
    width = weight_KIO.shape[2]
    multiple = _ALIGN_BYTES // x_VI.element_size()
    pad_in, pad_out = -x_VI.shape[1] % multiple, -width % multiple
    if pad_in or pad_out:
        x_VI = F.pad(x_VI, (0, pad_in))
        weight_KIO = F.pad(weight_KIO, (0, pad_out, 0, pad_in))
    out_VO = F.grouped_mm(x_VI.contiguous(), weight_KIO, offs=ends_K)
    if out_VO.requires_grad:
        # Its backward refuses a broadcast gradient, such as that of a plain sum.
        # register_hook is untyped in torch
        out_VO.register_hook(torch.Tensor.contiguous)  # type: ignore[no-untyped-call]
    return out_VO[:, :width] if pad_out else out_VO


class StackedLinear(nn.Module):
    """K linear layers in one weight [K, in, out]; Xavier-uniform per scenario, bias zero."""

    def __init__(self, num_scenarios: int, in_width: int, out_width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_scenarios, in_width, out_width))
        self.bias = nn.Parameter(torch.zeros(num_scenarios, out_width))
        bound = math.sqrt(6.0 / (in_width + out_width))
        with torch.no_grad():
            self.weight.uniform_(-bound, bound, generator=generator)

    def forward(self, x_VI: Tensor, routing: Routing) -> Tensor:
        """[V, in] of sorted visits -> [V, out]."""
        return routed_product(x_VI, self.weight, routing.ends_K) + self.bias.index_select(0, routing.scenario_V)

    def every(self, x: Tensor) -> Tensor:
        """All scenarios on all rows: x [B, in] (the same rows for each) or [K, B, in] -> [K, B, out]."""
        if x.dim() == 2:
            x = x.expand(self.weight.shape[0], -1, -1)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight)


class StackedTowers(nn.Module):
    """K towers: MLPs with ReLU between layers and a plain linear logit (no ReLU, no norm on it)."""

    def __init__(
        self, num_scenarios: int, in_width: int, hidden: Sequence[int], dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        widths = [in_width, *hidden, 1]
        self.layers = nn.ModuleList(StackedLinear(num_scenarios, i, o, generator) for i, o in pairwise(widths))
        self.dropout = dropout

    def forward(self, x_VI: Tensor, routing: Routing) -> Tensor:
        """Logits [V] of visits sorted by scenario."""
        h = x_VI
        for layer in self.layers[:-1]:
            h = F.dropout(F.relu(layer(h, routing)), self.dropout, self.training)
        logits_V1: Tensor = self.layers[-1](h, routing)
        return logits_V1.squeeze(1)

    def every(self, x_BI: Tensor) -> Tensor:
        """Logits [B, K] of every row in every tower."""
        h = x_BI
        for layer in self.layers[:-1]:
            assert isinstance(layer, StackedLinear)
            h = F.dropout(F.relu(layer.every(h)), self.dropout, self.training)
        last = self.layers[-1]
        assert isinstance(last, StackedLinear)
        return last.every(h).squeeze(2).t()
