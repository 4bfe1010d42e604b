"""Shapes of the step benchmark, the arithmetic of their matrix products and the machine's measured peak."""

from __future__ import annotations

import itertools

import torch

from benchmarks import harness
from msr_models.data.window import Window

BATCH, WIDTH, HIDDEN = 4096, 16, [1024, 512, 256]


def products_gflop(window: Window, share: float, *, multiplies: int = 3) -> float:
    """GFLOP of the towers' matrix products in a reuse step: forward, and twice as many backward."""
    widths = [window.layout.num_fields * WIDTH, *HIDDEN, 1]
    per_visit = 2 * sum(a * b for a, b in itertools.pairwise(widths))
    visits = BATCH * (1 + share * (window.num_scenarios - 1))
    return multiplies * per_visit * visits / 1e9


def peak_gflops(device: str, dtype: torch.dtype) -> float:
    """GFLOP/s of large matrix products, measured now."""
    size = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(4 * 1024 if device == "cpu" else size, size, device=device, dtype=dtype) for _ in range(2))
    b = b[:size]

    def product() -> None:
        for _ in range(5):
            a @ b
        if device == "cuda":
            torch.cuda.synchronize()

    return 5 * 2 * a.shape[0] * size * size / harness.median_seconds(product, repeat=5) / 1e9
