"""The second-order part of a factorisation machine."""

from __future__ import annotations

from torch import Tensor


def second_order(x_BFD: Tensor) -> Tensor:
    """Sum over pairs of fields i < j of <x_i, x_j>, [B] fp32, in time linear in the fields (Rendle 2010, lemma 3.1)."""
    x_BFD = x_BFD.float()
    return 0.5 * (x_BFD.sum(1).square() - x_BFD.square().sum(1)).sum(1)
