"""Score rows with a finished selector: a pure function of the row, whatever the batching, order or partitioning."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from msr_models.data.window import Window
from msr_models.ssim.selector import Selector

# Every product that scoring runs has this many rows, whatever it is asked for.
SCORE_ROWS = 2048


@torch.no_grad()
def score_rows(selector: Selector, window: Window, rows: torch.Tensor | None = None) -> NDArray[np.float32]:
    """Share probabilities p (eq. 9) of a window's rows (default: all, in order), float32.

    A row's bits do not depend on its neighbours: products have one fixed shape (short parts are filled up with copies
    of a row), run in float64 on the CPU, and only the result is rounded to float32. What the shape leaves open (which
    vector lane a row falls into) is 1e-16, eight orders below the rounding step.
    """
    frozen = copy.deepcopy(selector).to("cpu").double().eval()
    wanted = torch.arange(len(window)) if rows is None else rows.cpu()
    on_cpu = window.to("cpu")
    probs = np.empty(len(wanted), dtype=np.float32)
    for start in range(0, len(wanted), SCORE_ROWS):
        part = wanted[start : start + SCORE_ROWS]
        filled = torch.cat([part, part[:1].expand(SCORE_ROWS - len(part))])
        logits = frozen.score_batch(on_cpu.batch(filled))[: len(part)]
        probs[start : start + len(part)] = logits.sigmoid().float().numpy()
    return probs
