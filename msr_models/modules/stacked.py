"""The parts of K scenarios as stacked weights [K, in, out] with routed products: no Python loop over scenarios."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.dense import xavier_uniform_
from msr_models.modules.module_list import ModuleList
from msr_models.modules.routing import Routing

# The grouped product requires rows of a multiple of 16 bytes
_ALIGN_BYTES = 16


def routed_product(x_VI: Tensor, weight_KIO: Tensor, ends_K: Tensor) -> Tensor:
    """out[v] = x[v] @ weight[scenario of v], for visits sorted by scenario; ends_K as in Routing. Returns [V, O].

    Under autocast in the lower precision, as any product.
    """
    x_VI, weight_KIO = _autocast(x_VI), _autocast(weight_KIO)
    if x_VI.shape[0] == 0:
        return x_VI.new_zeros((0, weight_KIO.shape[2]))
    width = weight_KIO.shape[2]
    multiple = _ALIGN_BYTES // x_VI.element_size()
    pad_in, pad_out = -x_VI.shape[1] % multiple, -width % multiple
    if pad_in or pad_out:
        x_VI = F.pad(x_VI, (0, pad_in))
        weight_KIO = F.pad(weight_KIO, (0, pad_out, 0, pad_in))
    product = _grouped_product
    if torch.compiler.is_compiling() and x_VI.dtype != torch.bfloat16:
        # The compiler has a shape rule for bf16 only
        product = torch.compiler.disable(product)  # type: ignore[no-untyped-call]  # untyped in torch
    out_VO = product(x_VI.contiguous(), weight_KIO, ends_K)
    if out_VO.requires_grad:
        # Its backward refuses a broadcast gradient, such as that of a plain sum
        out_VO.register_hook(torch.Tensor.contiguous)  # type: ignore[no-untyped-call]  # untyped in torch
    return out_VO[:, :width] if pad_out else out_VO


def _grouped_product(x_VI: Tensor, weight_KIO: Tensor, ends_K: Tensor) -> Tensor:
    return F.grouped_mm(x_VI, weight_KIO, offs=ends_K)


def _autocast(x: Tensor) -> Tensor:
    """x in autocast's dtype (autocast does not cover the grouped product)."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class _RowsOf(torch.autograd.Function):
    """values[index] with a fast gradient where thousands of visits read the same few rows."""

    @staticmethod
    def forward(ctx: Any, values_KO: Tensor, index_V: Tensor) -> Tensor:
        ctx.save_for_backward(index_V)
        ctx.num_rows = values_KO.shape[0]
        return values_KO.index_select(0, index_V)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (index_V,) = ctx.saved_tensors
        num_rows: int = ctx.num_rows
        grad_VO = gradients[0]
        if grad_VO.device.type == "cpu":
            summed = torch.ops.aten.embedding_dense_backward(grad_VO.contiguous(), index_V, num_rows, -1, False)
            return summed, None
        # On a GPU thousands of atomic additions to the same few rows would be serial
        member_KV = torch.arange(num_rows, device=index_V.device)[:, None] == index_V
        return member_KV.to(grad_VO.dtype) @ grad_VO, None


def rows_of(values_KO: Tensor, index_V: Tensor) -> Tensor:
    """values_KO[index_V], [V, O]: few rows, each read by many visits."""
    picked: Tensor = _RowsOf.apply(values_KO, index_V)  # type: ignore[no-untyped-call]  # untyped in torch
    return picked


class StackedLinear(nn.Module):
    """K linear layers in one weight [K, in, out]; Xavier-uniform per scenario, bias zero."""

    def __init__(self, num_scenarios: int, in_width: int, out_width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_scenarios, in_width, out_width))
        self.bias = nn.Parameter(torch.zeros(num_scenarios, out_width))
        xavier_uniform_(self.weight, in_width + out_width, generator)

    def forward(self, x_VI: Tensor, routing: Routing) -> Tensor:
        """[V, in] of sorted visits -> [V, out]."""
        if self.weight.shape[2] == 1:
            return self._logits(x_VI, routing)[:, None]
        out_VO = routed_product(x_VI, self.weight, routing.ends_K)
        bias_VO = rows_of(self.bias.to(out_VO.dtype), routing.scenario_V)
        # In place unless the product is a view of a padded one: one pass over [V, out] less
        return out_VO.add_(bias_VO) if out_VO._base is None else out_VO + bias_VO

    def _logits(self, x_VI: Tensor, routing: Routing) -> Tensor:
        """A layer of width 1, [V] fp32: logits rounded to bf16 would be tied."""
        weight_VI = rows_of(self.weight.squeeze(2), routing.scenario_V)
        bias_V = rows_of(self.bias, routing.scenario_V).squeeze(1)
        with torch.autocast(x_VI.device.type, enabled=False):
            return (x_VI.float() * weight_VI).sum(1) + bias_V

    def every(self, x: Tensor) -> Tensor:
        """All scenarios on all rows: x [B, in] (the same rows for each) or [K, B, in] -> [K, B, out]."""
        if x.dim() == 2:
            x = x.expand(self.weight.shape[0], -1, -1)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight)


def stacked_layers(stacks: int, widths: Sequence[int], generator: torch.Generator) -> ModuleList[StackedLinear]:
    """The layers of `stacks` MLPs side by side; widths: of the input and of every layer."""
    return ModuleList(StackedLinear(stacks, i, o, generator) for i, o in pairwise(widths))


def through_all(layers: Iterable[StackedLinear], x: Tensor, dropout: float, training: bool) -> Tensor:
    """x [B, in] through all of K MLPs, [K, B, out]: ReLU and dropout after every layer; x itself without layers."""
    for layer in layers:
        x = F.dropout(F.relu(layer.every(x), inplace=True), dropout, training)
    return x


class StackedTowers(nn.Module):
    """K towers: MLPs with ReLU and dropout after every hidden layer, and a linear logit."""

    def __init__(
        self, num_scenarios: int, in_width: int, hidden: Sequence[int], dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.layers = stacked_layers(num_scenarios, [in_width, *hidden, 1], generator)
        self.dropout = dropout

    def forward(self, x_VI: Tensor, routing: Routing) -> Tensor:
        """Logits [V] of visits sorted by scenario, fp32."""
        h = x_VI
        for layer in self.layers[:-1]:
            h = F.dropout(F.relu(layer(h, routing), inplace=True), self.dropout, self.training)
        logits_V1: Tensor = self.layers[-1](h, routing)
        return logits_V1.squeeze(1)

    def every(self, x_BI: Tensor) -> Tensor:
        """Logits [B, K] of every row in every tower."""
        h = through_all(self.layers[:-1], x_BI, self.dropout, self.training)
        with torch.autocast(h.device.type, enabled=False):
            return self.layers[-1].every(h.float()).squeeze(2).t()
