"""The attention of a row's item to its behaviours, against its formula."""

from __future__ import annotations

import torch

from msr_models.modules.target_attention import TargetAttention

B, L, D, H = 7, 5, 4, 6


def make() -> TargetAttention:
    attention, generator = TargetAttention(D, torch.Generator().manual_seed(1), H), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return attention


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    query_BD, keys_BLD = torch.randn(B, D, generator=generator), torch.randn(B, L, D, generator=generator)
    mask_BL = torch.rand(B, L, generator=generator) < 0.6
    mask_BL[0], mask_BL[1] = False, True
    return query_BD.requires_grad_(), keys_BLD.requires_grad_(), mask_BL


def transcribed(unit: TargetAttention, q: torch.Tensor, behaviours: list[torch.Tensor]) -> torch.Tensor:
    """Σ_l a(e_l, q) e_l, a of [e, q, e - q, e ⊙ q] with PReLU and without a softmax."""
    total = torch.zeros(D)
    for e in behaviours:
        h = torch.cat([e, q, e - q, e * q]) @ unit.weight_IH + unit.bias_H
        h = torch.nn.functional.prelu(h[None], unit.slope_H)[0]
        total = total + (h @ unit.head_H + unit.head_bias[0]) * e
    return total


def test_behaviours_are_summed_with_the_units_answers_and_so_are_their_gradients() -> None:
    unit, (query_BD, keys_BLD, mask_BL) = make(), inputs()
    want_BD = torch.stack(
        [
            transcribed(unit, q, [e for e, real in zip(keys, mask, strict=True) if real])
            for q, keys, mask in zip(query_BD, keys_BLD, mask_BL, strict=True)
        ]
    )
    got_BD = unit(query_BD, keys_BLD, mask_BL)
    torch.testing.assert_close(got_BD, want_BD, atol=1e-4, rtol=1e-4)
    wanted = [query_BD, keys_BLD, *unit.parameters()]
    for got, want in zip(
        torch.autograd.grad(got_BD.square().sum(), wanted),
        torch.autograd.grad(want_BD.square().sum(), wanted),
        strict=True,
    ):
        assert want.abs().max() > 0
        torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)


def test_padding_neither_counts_nor_learns() -> None:
    unit, (query_BD, keys_BLD, mask_BL) = make(), inputs()
    pooled_BD = unit(query_BD, keys_BLD, mask_BL)
    assert torch.equal(pooled_BD[0], torch.zeros(D))
    (grad_BLD,) = torch.autograd.grad(pooled_BD.sum(), keys_BLD)
    assert grad_BLD[~mask_BL].abs().max() == 0 < grad_BLD[mask_BL].abs().min()
    other_BLD = torch.where(mask_BL[:, :, None], keys_BLD, 100.0)
    torch.testing.assert_close(unit(query_BD, other_BLD, mask_BL), pooled_BD)


def test_interest_is_not_normalised() -> None:
    """The same behaviour twice counts twice."""
    unit, (query_BD, keys_BLD, _) = make(), inputs()
    one_BL = torch.ones(B, 1, dtype=torch.bool)
    once_BD = unit(query_BD, keys_BLD[:, :1], one_BL)
    twice_BD = unit(query_BD, keys_BLD[:, :1].repeat(1, 2, 1), one_BL.repeat(1, 2))
    torch.testing.assert_close(twice_BD, 2 * once_BD)


def test_a_mean_does_not_grow_with_the_number_of_behaviours() -> None:
    """It is the sum over the real ones; the same behaviours twice count once, and none are zeros."""
    unit, (query_BD, keys_BLD, mask_BL) = make(), inputs()
    sum_BD = unit(query_BD, keys_BLD, mask_BL)
    unit.is_mean = True
    mean_BD = unit(query_BD, keys_BLD, mask_BL)
    torch.testing.assert_close(mean_BD * mask_BL.sum(1, keepdim=True), sum_BD)
    torch.testing.assert_close(unit(query_BD, keys_BLD.repeat(1, 2, 1), mask_BL.repeat(1, 2)), mean_BD)
    assert torch.equal(mean_BD[0], torch.zeros(D))


def test_bf16_follows_fp32() -> None:
    unit, (query_BD, keys_BLD, mask_BL) = make(), inputs()
    exact_BD = unit(query_BD, keys_BLD, mask_BL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low_BD = unit(query_BD, keys_BLD, mask_BL)
    assert (low_BD.float() - exact_BD).norm() < 0.02 * exact_BD.norm()


def test_fresh_weights_come_from_the_generator() -> None:
    first, second = (TargetAttention(D, torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first.weight_IH.shape == (16, 36) and first.bias_H.abs().max() == 0
