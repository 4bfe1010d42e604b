"""The gate of SSIM eq. 10: g = S(p - eps), hard in the forward pass, with a gradient in the backward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from schemas.pipeline_spec import GateEstimator


class Gate(nn.Module):
    """g = 1 where p > eps, with a learnable eps that is kept inside its bounds (two equal ones fix it).

    `straight_through`: dg/dp = 1 and dg/deps = -1 for every row, so that a row below eps can come back.
    `relu`: the authors' S(relu(p - eps)); the same above eps, no gradient at all below it.
    """

    def __init__(self, estimator: GateEstimator, threshold_init: float, bounds: tuple[float, float]) -> None:
        super().__init__()
        low, high = bounds
        if not low <= threshold_init <= high:
            raise ValueError(f"threshold_init {threshold_init} lies outside its bounds [{low}, {high}]")
        self.estimator = estimator
        self.bounds = bounds
        self.threshold = nn.Parameter(torch.tensor(float(threshold_init)))

    def forward(self, probs_B: Tensor, *, learn_threshold: bool = True) -> Tensor:
        """Gate [B] in {0, 1} of share probabilities [B]; `learn_threshold` False: no gradient to eps."""
        margin_B = probs_B - (self.threshold if learn_threshold else self.threshold.detach())
        soft_B = torch.relu(margin_B) if self.estimator == "relu" else margin_B
        # soft - soft.detach() is exactly 0 forward, and carries the gradient backward
        return (margin_B > 0).to(probs_B.dtype) + (soft_B - soft_B.detach())

    @torch.no_grad()
    def project(self) -> None:
        """Put eps back into its bounds; call after every optimiser step."""
        self.threshold.clamp_(*self.bounds)

    def at_bound(self, tolerance: float = 1e-3) -> bool:
        """Whether eps has run to (within `tolerance`, or a tenth of their distance, of) one of its bounds.

        Never where the bounds are one number: such an eps is fixed, and has nowhere to run.
        """
        low, high = self.bounds
        value = float(self.threshold.detach())
        return low < high and min(value - low, high - value) < min(tolerance, (high - low) / 10)
