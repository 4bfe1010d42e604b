"""Negative sampling of training rows: each negative is kept or not by a hash of its id and the seed.

The labels that are left follow other log odds: z - log s of a row whose negatives are kept with probability s (He et
al. 2014, section 6.3, solved for the logit). The loss compares labels with these, so that z, which predicts, stays that
of all rows. s is of the scenario that a row is from, also where it trains other scenarios' towers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from msr_models.data.columns import Array
from msr_models.data.digest import mix_int, row_keys, uniforms
from msr_models.data.window import Window

_SAMPLING = 0x5EED


def kept_rows(key_N: Array, scenario_N: Array, label_N: Array, kept_K: Sequence[float], seed: int) -> Array:
    """Which rows are kept, bool: all positives, and of scenario k's negatives the share kept_K[k] by chance.

    key_N: `digest.row_keys`.
    """
    draw_N = uniforms(key_N, mix_int(seed) ^ _SAMPLING)
    return np.asarray((label_N > 0.5) | (draw_N < np.asarray(kept_K)[scenario_N]))


def sample_negatives(window: Window, rows: Tensor, kept_K: Sequence[float], seed: int) -> Tensor:
    """The positions of those of a window's rows that are kept, in their order."""
    columns = (window.instance_id_N, window.day_N, window.scenario_N, window.label_N)
    instance_N, day_N, scenario_N, label_N = (column[rows].cpu().numpy() for column in columns)
    key_N = np.zeros(len(rows), dtype=np.uint64)
    for index in np.unique(day_N).tolist():
        here = day_N == index
        key_N[here] = row_keys(instance_N[here], window.days[index])
    return rows[torch.from_numpy(kept_rows(key_N, scenario_N, label_N, kept_K, seed)).to(rows.device)]


def log_odds_shift(kept_K: Sequence[float]) -> Tensor:
    """-log s of each scenario, [K] float32: what sampling adds to the log odds of the rows that are left."""
    return -torch.tensor(kept_K, dtype=torch.float64).log().float()
