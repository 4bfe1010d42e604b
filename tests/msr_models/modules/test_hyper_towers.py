"""Scales of a tower's layers: where they start, how far they reach, and what they are made of."""

from __future__ import annotations

import torch

from msr_models.modules.hyper_towers import HyperTowers
from msr_models.modules.routing import Routing


def build(hyper_hidden: int | None = 4) -> HyperTowers:
    return HyperTowers(3, 6, (5, 4), hyper_hidden, 0.0, torch.Generator().manual_seed(1))


def test_every_state_below_a_layer_has_a_scale_between_0_and_2() -> None:
    towers, x_VI = build(), 3 * torch.randn(50, 6, generator=torch.Generator().manual_seed(2))
    assert towers.hypernetwork is not None
    scales = [scale_VI.detach() for scale_VI in towers.hypernetwork(x_VI)]
    assert [s.shape for s in scales] == [(50, 6), (50, 5), (50, 4)]
    assert all(0 < float(s.min()) < 0.9 and 1.1 < float(s.max()) < 2 for s in scales)


def test_scales_of_one_are_plain_towers() -> None:
    towers, plain = build(), build(None)
    plain.load_state_dict({key: v for key, v in towers.state_dict().items() if "hypernetwork" not in key})
    x_VI, own = torch.randn(9, 6), Routing.own(torch.arange(9) % 3, 3)
    assert not torch.allclose(towers(x_VI, own), plain(x_VI, own))
    assert towers.hypernetwork is not None
    with torch.no_grad():
        for layer in towers.hypernetwork.second:
            layer.weight_IO.zero_()
    torch.testing.assert_close(towers(x_VI, own), plain(x_VI, own))


def test_the_logit_takes_both_signs_and_is_fp32_under_autocast() -> None:
    towers, own = build(), Routing.own(torch.arange(99) % 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits_V = towers(torch.randn(99, 6, generator=torch.Generator().manual_seed(2)), own)
    assert logits_V.dtype == torch.float32 and logits_V.min() < 0 < logits_V.max()
