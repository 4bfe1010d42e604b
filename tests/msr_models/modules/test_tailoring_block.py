"""Distribution-aware pooling of behaviours."""

from __future__ import annotations

import pytest
import torch

from msr_models.modules.tailoring_block import pooled_behaviours


def test_mean_and_deviation_are_those_of_the_real_ones_and_so_are_their_gradients() -> None:
    generator = torch.Generator().manual_seed(1)
    v_RLD, real_RL = torch.randn(9, 6, 3, generator=generator), torch.rand(9, 6, generator=generator) < 0.6
    real_RL[:, 1:3] = True  # one alone has no deviation
    v_RLD.requires_grad_()
    want_RP = torch.stack(
        [
            torch.cat([v[real].mean(0), ((v[real] ** 2).mean(0) - v[real].mean(0) ** 2).sqrt()])
            for v, real in zip(v_RLD, real_RL, strict=True)
        ]
    )
    pooled_RP = pooled_behaviours(v_RLD, real_RL, with_std=True)
    torch.testing.assert_close(pooled_RP, want_RP, atol=1e-5, rtol=1e-4)
    weight_RP = torch.randn(9, 6, generator=generator)
    (got_RLD,), (want_RLD,) = (torch.autograd.grad((p * weight_RP).sum(), v_RLD) for p in (pooled_RP, want_RP))
    torch.testing.assert_close(got_RLD, want_RLD, atol=1e-5, rtol=1e-4)
    assert torch.equal(pooled_behaviours(v_RLD, real_RL, with_std=False), pooled_RP[:, :3])


@pytest.mark.parametrize("real", [[], [2], [0, 1, 2, 3]])
def test_without_variance_there_is_no_slope_and_no_nan(real: list[int]) -> None:
    v_RLD, real_RL = torch.full((1, 4, 2), 0.7, requires_grad=True), torch.zeros(1, 4, dtype=torch.bool)
    real_RL[0, real] = True
    pooled_RP = pooled_behaviours(v_RLD, real_RL, with_std=True)
    torch.testing.assert_close(pooled_RP[0, :2], torch.full((2,), 0.7 if real else 0.0))
    assert pooled_RP[0, 2:].abs().max() < 2e-4
    (grad_RLD,) = torch.autograd.grad(pooled_RP[:, 2:].sum(), v_RLD)
    assert grad_RLD.abs().max() < 1e-2


def test_a_small_deviation_beside_a_large_mean_is_not_lost() -> None:
    v_RLD = 100.0 + torch.tensor([-0.01, 0.01, 0.01, -0.01]).view(1, 4, 1)
    pooled_RP = pooled_behaviours(v_RLD, torch.ones(1, 4, dtype=torch.bool), with_std=True)
    torch.testing.assert_close(pooled_RP[0, 1], torch.tensor(0.01), atol=1e-4, rtol=0)
