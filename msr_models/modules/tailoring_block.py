"""SFPNet's Scenario-Tailoring Block: fields and behaviours are tailored to a context of the scenario.

Suffixes: R input rows (visits, after the first block that reads the scenario), P pooled behaviours, C context, T 2D.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.dense import Dense, xavier_uniform_
from msr_models.modules.tailoring_gate import ScenarioGate, Visits

BlockPart = Literal["dap", "sam", "rtm"]

# Added under the root, whose slope is infinite where all behaviours of a row are equal; far below a vector's variance
_VARIANCE_FLOOR = 1e-8


class ScenarioTailoringBlock(nn.Module):
    """Fields x_i and behaviours v_i, scenario s -> the same, tailored (SFPNet, eq. 2-7; d_l = D in every block).

    DAP  B = (mean, std) of the real behaviours                               eq. 2
    SAM  X̂ = [x_1 .. x_F ; B] ⊗ A, A a ScenarioGate of [x_1 .. x_F ; B ; s]     eq. 3-4
    RTM  [c_1 .. c_F ; c_b] = W_3 ReLU(W_2 X̂ + b_2) + b_3                      eq. 5
         x_i' = ReLU(W_i1 x_i + b_i1) + σ(W_i2 x_i + b_i2) ⊗ c_i               eq. 6
         v_i' = ReLU(W_4 v_i + b_4) + σ(W_5 v_i + b_5) ⊗ c_b                   eq. 7

    Two readings of the paper. It gives c_b the width 2D of B, but eq. 7 multiplies it with a vector of width D: here
    W_3 maps to D. And its text calls x_i of eq. 6 the output of SAM, but its symbol ("the original feature
    representation") is the block's input, which is used here.

    Without `dap` B is the mean alone; without `sam` X̂ is not gated, so that the block is independent of the scenario;
    without `rtm` x' is the gated x, v' = v, and B has no gate, because nothing reads it.
    Initial weights: Xavier-uniform, biases zero.
    """

    def __init__(
        self,
        num_fields: int,
        width: int,
        gate_hidden: int,
        context_hidden: int,
        without: BlockPart | None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.num_fields, self.width, self.without = num_fields, width, without
        own_width = num_fields * width
        context_width = own_width + (1 if without == "dap" else 2) * width
        self.gate: ScenarioGate | None = None
        if without != "sam":
            gated = own_width if without == "rtm" else context_width
            self.gate = ScenarioGate(context_width, width, gate_hidden, gated, generator)
        if without == "rtm":
            return
        self.context = Dense(context_width, context_hidden, generator)
        self.signals = Dense(context_hidden, own_width + width, generator)
        self.field_weight_FDT = nn.Parameter(torch.empty(num_fields, width, 2 * width))
        self.field_bias_FT = nn.Parameter(torch.zeros(num_fields, 2 * width))
        xavier_uniform_(self.field_weight_FDT, 2 * width, generator)
        self.behaviour = Dense(width, 2 * width, generator, parts=2)

    def forward(
        self, x_RFD: Tensor, v_RLD: Tensor, real_RL: Tensor, scenario_KS: Tensor, visits: Visits
    ) -> tuple[Tensor, Tensor]:
        """x_VFD, v_VLD; real_RL is False where a behaviour is padding."""
        pooled_RP = pooled_behaviours(v_RLD, real_RL, with_std=self.without != "dap")
        context_RC = torch.cat([x_RFD.flatten(1), pooled_RP.to(x_RFD.dtype)], dim=1)
        context_VC = visits.of(context_RC)
        gate_VC = 1.0 if self.gate is None else self.gate(context_RC, scenario_KS, visits)
        if self.without == "rtm":
            own_VI = context_VC[:, : self.num_fields * self.width] * gate_VC
            return own_VI.view(-1, self.num_fields, self.width), visits.of(v_RLD)
        signals_VI: Tensor = self.signals(F.relu(self.context(context_VC * gate_VC)))
        signals_VFD = signals_VI.view(-1, self.num_fields + 1, self.width)
        of_fields_VFD, of_behaviours_V1D = torch.split(signals_VFD, [self.num_fields, 1], dim=1)
        fields_FRT = torch.baddbmm(self.field_bias_FT[:, None], x_RFD.transpose(0, 1), self.field_weight_FDT)
        x_VFD = _tailored(fields_FRT.transpose(0, 1), of_fields_VFD, visits)
        v_VLD = _tailored(self.behaviour(v_RLD), of_behaviours_V1D, visits)
        return x_VFD, v_VLD


def _tailored(product_RNT: Tensor, signal_VND: Tensor, visits: Visits) -> Tensor:
    """ReLU(first half) + σ(second half) ⊗ signal; both halves are computed once per row."""
    own_RND, gate_RND = product_RNT.chunk(2, dim=2)
    return torch.addcmul(visits.of(F.relu(own_RND)), visits.of(gate_RND.sigmoid()), signal_VND)


def pooled_behaviours(v_RLD: Tensor, real_RL: Tensor, *, with_std: bool) -> Tensor:
    """Distribution-aware pooling: mean and standard deviation of the real behaviours, [R, 2D] (or the mean, [R, D]).

    fp32, from centred values: eq. 2 subtracts two large numbers. Without behaviours the mean is 0; the deviation of
    equal behaviours (or none) is 1e-4 with gradient 0.
    """
    with torch.autocast(v_RLD.device.type, enabled=False):
        weight_RL = real_RL / real_RL.sum(1, keepdim=True).clamp(min=1)
        if not with_std:
            return torch.bmm(weight_RL[:, None], v_RLD.float()).squeeze(1)
        pooled_R2D: Tensor = _Moments.apply(v_RLD.float(), weight_RL)  # type: ignore[no-untyped-call]  # untyped
        return pooled_R2D.flatten(1)


class _Moments(torch.autograd.Function):
    """Weighted mean and deviation over L, [R, 2, D], with one pass for both gradients (the deviation's does not pass
    through the mean).
    """

    @staticmethod
    def forward(ctx: Any, v_RLD: Tensor, weight_RL: Tensor) -> Tensor:
        mean_R1D = torch.bmm(weight_RL[:, None], v_RLD)
        centred_RLD = v_RLD - mean_R1D
        variance_R1D = torch.bmm(weight_RL[:, None], centred_RLD.square())
        std_R1D = (variance_R1D + _VARIANCE_FLOOR).sqrt_()
        ctx.save_for_backward(centred_RLD, weight_RL, std_R1D)
        return torch.cat([mean_R1D, std_R1D], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        centred_RLD, weight_RL, std_R1D = ctx.saved_tensors
        of_mean_R1D, of_std_R1D = gradients[0].chunk(2, dim=1)
        grad_RLD = torch.addcmul(of_mean_R1D, centred_RLD, of_std_R1D / std_R1D)
        return grad_RLD.mul_(weight_RL[:, :, None]), None
