"""Progressive layered extraction: levels of experts, some of them a scenario's own (PLE; one level of it is CGC).

Suffixes: X a scenario's own experts, S experts that all share, C inputs of the level, H width of an expert's output.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.dense import xavier_parameter, xavier_uniform_
from msr_models.modules.module_list import ModuleList
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import routed_product, rows_of, stacked_layers, through_all


class ScenarioExperts(nn.Module):
    """X experts per scenario: MLPs with ReLU after every layer. Initial weights: Xavier-uniform per expert."""

    def __init__(
        self,
        num_scenarios: int,
        in_width: int,
        num_experts: int,
        hidden: Sequence[int],
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        sizes = list(pairwise([in_width, *hidden]))
        self.weights = nn.ParameterList(torch.empty(num_scenarios, i, num_experts, o) for i, o in sizes)
        self.biases = nn.ParameterList(torch.zeros(num_scenarios, num_experts, o) for _, o in sizes)
        for weight, (i, o) in zip(self.weights, sizes, strict=True):
            xavier_uniform_(weight, i + o, generator)
        self.dropout = dropout

    def forward(self, x_VC: Tensor, routing: Routing) -> Tensor:
        """Each visit's input through its own scenario's experts, [V, X, H]."""
        visits, (experts, width) = x_VC.shape[0], self.weights[0].shape[2:]
        first = routed_product(x_VC, self.weights[0].flatten(2), routing.ends_K)
        h_VXH = self._activate(first.view(visits, experts, width), rows_of_experts(self.biases[0], routing))
        # After the first layer every expert has an input of its own: groups are (expert, scenario)
        starts_X1 = visits * torch.arange(experts, device=x_VC.device, dtype=torch.int32)[:, None]
        ends = (routing.ends_K + starts_X1).flatten()
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            grouped = weight.permute(2, 0, 1, 3).flatten(0, 1)
            product = routed_product(h_VXH.transpose(0, 1).flatten(0, 1), grouped, ends)
            h_XVH = product.view(experts, visits, bias.shape[2])
            h_VXH = self._activate(h_XVH.transpose(0, 1), rows_of_experts(bias, routing))
        return h_VXH

    def every(self, x: Tensor) -> Tensor:
        """All scenarios' experts on all rows: x [B, C] (the same for all) or [B, K, C] -> [B, K, X, H]."""
        weight_KCXH = self.weights[0]
        scenarios, width, experts, out_width = weight_KCXH.shape
        if x.dim() == 2:
            h = x @ weight_KCXH.permute(1, 0, 2, 3).reshape(width, -1)
        else:
            h = torch.bmm(x.transpose(0, 1), weight_KCXH.flatten(2)).transpose(0, 1)
        h_BKXH = self._activate(h.reshape(x.shape[0], scenarios, experts, out_width), self.biases[0])
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            h_BKXH = self._activate(torch.einsum("bkxi,kixo->bkxo", h_BKXH, weight), bias)
        return h_BKXH

    def _activate(self, product: Tensor, bias: Tensor) -> Tensor:
        return F.dropout(F.relu(product + bias.to(product.dtype)), self.dropout, self.training)


def rows_of_experts(bias_KXH: Tensor, routing: Routing) -> Tensor:
    """Each visit's biases, [V, X, H]."""
    return rows_of(bias_KXH.flatten(1), routing.scenario_V).view(routing.scenario_V.shape[0], *bias_KXH.shape[1:])


class ProgressiveLevel(nn.Module):
    """One level: a stream x_k per scenario and, except on the last level, a shared one x_S.

    x_k' = softmax(W_k x_k) [E_k(x_k) ; E_S(x_S)];  x_S' = softmax(W_S x_S) [E_1(x_1) ; ... ; E_K(x_K) ; E_S(x_S)]
    (Tang et al. 2020, eq. 1-8). A gate is a product and a softmax.
    """

    def __init__(
        self,
        num_scenarios: int,
        in_width: int,
        num_specific: int,
        num_shared: int,
        hidden: Sequence[int],
        dropout: float,
        is_last: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.own = ScenarioExperts(num_scenarios, in_width, num_specific, hidden, dropout, generator)
        self.shared = stacked_layers(num_shared, [in_width, *hidden], generator)
        self.dropout = dropout
        self.gate_KCX = _gate((num_scenarios, in_width, num_specific + num_shared), generator)
        # Nothing reads a shared stream of the last level
        width = num_scenarios * num_specific + num_shared
        self.shared_gate_CX = None if is_last else _gate((in_width, width), generator)

    def forward(self, x_VC: Tensor, shared_BC: Tensor, routing: Routing) -> Tensor:
        """The visits' streams after this level, [V, H]: only the experts of their scenarios run."""
        return self._at_visits(x_VC, self.own(x_VC, routing), self._shared_experts(shared_BC), routing)

    def before_last(self, x: Tensor, shared_BC: Tensor, routing: Routing) -> tuple[Tensor, Tensor]:
        """Streams of the visits [V, H] and the shared one [B, H], which needs all experts; x [B, C] or [B, K, C]."""
        own_BKXH, shared_BSH = self.own.every(x), self._shared_experts(shared_BC)
        own_VXH = at_visits(own_BKXH, routing)
        x_VH = self._at_visits(at_visits(x, routing), own_VXH, shared_BSH, routing)
        return x_VH, self._mix_all(shared_BC, own_BKXH, shared_BSH)

    def everywhere(self, x: Tensor, shared_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Streams of all scenarios [B, K, H] and the shared one [B, H]; x [B, C] (the same for all) or [B, K, C]."""
        own_BKXH, shared_BSH = self.own.every(x), self._shared_experts(shared_BC)
        inputs = "bc" if x.dim() == 2 else "bkc"
        gate_BKX = torch.einsum(f"{inputs},kcx->bkx", x, self.gate_KCX).softmax(2)
        own = own_BKXH.shape[2]
        x_BKH = torch.einsum("bkx,bkxh->bkh", gate_BKX[:, :, :own], own_BKXH)
        x_BKH = x_BKH + torch.einsum("bks,bsh->bkh", gate_BKX[:, :, own:], shared_BSH)
        return x_BKH, self._mix_all(shared_BC, own_BKXH, shared_BSH)

    def _at_visits(self, x_VC: Tensor, own_VXH: Tensor, shared_BSH: Tensor, routing: Routing) -> Tensor:
        gate_VX = routed_product(x_VC, self.gate_KCX, routing.ends_K).softmax(1)
        experts_VXH = torch.cat([own_VXH, shared_BSH.index_select(0, routing.row_index_V)], dim=1)
        return torch.einsum("vx,vxh->vh", gate_VX, experts_VXH)

    def _mix_all(self, shared_BC: Tensor, own_BKXH: Tensor, shared_BSH: Tensor) -> Tensor:
        assert self.shared_gate_CX is not None
        gate_BX = (shared_BC @ self.shared_gate_CX).softmax(1)
        return torch.einsum("bx,bxh->bh", gate_BX, torch.cat([own_BKXH.flatten(1, 2), shared_BSH], dim=1))

    def _shared_experts(self, shared_BC: Tensor) -> Tensor:
        return through_all(self.shared, shared_BC, self.dropout, self.training).transpose(0, 1)


class ProgressiveExperts(nn.Module):
    """Levels in sequence, from x [B, E] to a mixture per visit [V, H]."""

    def __init__(
        self,
        num_scenarios: int,
        in_width: int,
        levels: int,
        num_specific: int,
        num_shared: int,
        hidden: Sequence[int],
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths = [in_width, *[hidden[-1]] * (levels - 1)]
        self.levels = ModuleList(
            ProgressiveLevel(
                num_scenarios, width, num_specific, num_shared, hidden, dropout, n == levels - 1, generator
            )
            for n, width in enumerate(widths)
        )

    def forward(self, x_BE: Tensor, routing: Routing) -> Tensor:
        """[V, H]. All levels but the last run once per row and scenario, the last one once per visit."""
        *levels, last = self.levels
        x, shared_BC = x_BE, x_BE
        for level in levels[:-1]:
            x, shared_BC = level.everywhere(x, shared_BC)
        if levels:
            x_VC, shared_BC = levels[-1].before_last(x, shared_BC, routing)
        else:
            x_VC = at_visits(x, routing)
        mixed_VH: Tensor = last(x_VC, shared_BC, routing)
        return mixed_VH


def at_visits(values: Tensor, routing: Routing) -> Tensor:
    """values [B, C] (the same for all scenarios) or [B, K, ...] at the visits' rows and scenarios."""
    if values.dim() == 2:
        return values.index_select(0, routing.row_index_V)
    place_V = routing.row_index_V * values.shape[1] + routing.scenario_V
    return values.flatten(0, 1).index_select(0, place_V)


def _gate(shape: tuple[int, ...], generator: torch.Generator) -> nn.Parameter:
    return xavier_parameter(shape, shape[-2] + shape[-1], generator)
