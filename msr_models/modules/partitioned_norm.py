"""Partitioned normalisation (STAR): visits are normalised with the moments of their scenario."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from msr_models.modules.routing import Routing
from msr_models.modules.stacked import rows_of

# Moments of fewer visits are not used
MIN_VISITS = 2


class PartitionedNorm(nn.Module):
    """z' = (γ ⊙ γ_p)(z − μ_p) / sqrt(σ²_p + ε) + (β + β_p) for visits of scenario p (Sheng et al. 2021, eq. 4-6).

    Training: μ_p and σ²_p (biased) are the moments of p's visits in the batch over all processes, that is of its own
    rows and the shared ones, without padding. The running moments move towards them by max(momentum, 1/n) at p's n-th
    update, so that they are plain means at first and independent of their initial values (0 and 1); the variance moves
    towards the unbiased one.
    In eval mode, without gradients, and for a scenario with fewer than two visits in the batch the running moments are
    used and not updated.
    """

    neutral_values: ClassVar[Mapping[str, float]] = {"scale_E": 1.0, "own_scale_KE": 1.0}

    running_mean_KE: Tensor
    running_var_KE: Tensor
    num_updates_K: Tensor

    def __init__(self, num_scenarios: int, width: int, momentum: float, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.scale_E = nn.Parameter(torch.ones(width))
        self.shift_E = nn.Parameter(torch.zeros(width))
        self.own_scale_KE = nn.Parameter(torch.ones(num_scenarios, width))
        self.own_shift_KE = nn.Parameter(torch.zeros(num_scenarios, width))
        self.register_buffer("running_mean_KE", torch.zeros(num_scenarios, width))
        self.register_buffer("running_var_KE", torch.ones(num_scenarios, width))
        self.register_buffer("num_updates_K", torch.zeros(num_scenarios, dtype=torch.int64))

    def forward(self, x_VE: Tensor, routing: Routing) -> Tensor:
        """[V, E] of visits sorted by scenario -> [V, E] fp32."""
        with torch.autocast(x_VE.device.type, enabled=False):
            x_VE = x_VE.float()
            if self.training and torch.is_grad_enabled():
                mean_KE, var_KE = self._batch_moments(x_VE, routing)
            else:
                mean_KE, var_KE = self.running_mean_KE, self.running_var_KE
            scale_KE = self.scale_E * self.own_scale_KE * (var_KE + self.eps).rsqrt()
            shift_KE = self.shift_E + self.own_shift_KE
            centred_VE = x_VE - rows_of(mean_KE, routing.scenario_V)
            return torch.addcmul(
                rows_of(shift_KE, routing.scenario_V), centred_VE, rows_of(scale_KE, routing.scenario_V)
            )

    def _batch_moments(self, x_VE: Tensor, routing: Routing) -> tuple[Tensor, Tensor]:
        """(mean, biased variance) per scenario, [K, E] each; updates the running moments."""
        known_K1 = torch.arange(len(self.num_updates_K), device=x_VE.device)[:, None]
        member_KV = known_K1 == routing.scenario_V
        if routing.real_V is not None:
            member_KV = member_KV & routing.real_V
        member_KV = member_KV.to(x_VE.dtype)
        # Sums and counts in one message; a second pass for the centred squares avoids cancellation
        totals = _over_processes(torch.cat([member_KV @ x_VE, member_KV.sum(1, keepdim=True)], dim=1))
        count_K1 = totals[:, -1:].detach()
        mean_KE = totals[:, :-1] / count_K1.clamp(min=1)
        squares_VE = (x_VE - rows_of(mean_KE, routing.scenario_V)).square()
        var_KE = _over_processes(member_KV @ squares_VE) / count_K1.clamp(min=1)
        enough_K1 = count_K1 >= MIN_VISITS
        moments = (
            torch.where(enough_K1, mean_KE, self.running_mean_KE),
            torch.where(enough_K1, var_KE, self.running_var_KE),
        )
        self._remember(mean_KE.detach(), var_KE.detach(), count_K1)
        return moments

    @torch.no_grad()
    def _remember(self, mean_KE: Tensor, var_KE: Tensor, count_K1: Tensor) -> None:
        enough_K1 = count_K1 >= MIN_VISITS
        self.num_updates_K += enough_K1.squeeze(1)
        rate_K1 = (1.0 / self.num_updates_K.clamp(min=1)).clamp(min=self.momentum)[:, None]
        rate_K1 = torch.where(enough_K1, rate_K1, 0.0)
        unbiased_KE = var_KE * count_K1 / (count_K1 - 1).clamp(min=1)
        self.running_mean_KE.lerp_(mean_KE, rate_K1)
        self.running_var_KE.lerp_(unbiased_KE, rate_K1)


def _over_processes(sums: Tensor) -> Tensor:
    """Sums over all processes, with gradients, so that several processes train as one would."""
    if not (dist.is_available() and dist.is_initialized()):
        return sums
    summed: Tensor = all_reduce(sums)  # type: ignore[no-untyped-call]  # untyped in torch
    return summed
