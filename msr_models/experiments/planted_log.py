"""A synthetic log with known truth, as a Window in memory: half of the items are shareable.

K scenarios of unequal size; the label is drawn from sigmoid(user factor . item taste + item bias). Taste and bias of a
shareable item are the same in every scenario, those of other items differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import torch
from numpy.typing import NDArray

from msr_models.data.layout import FieldLayout
from msr_models.data.window import Window
from msr_models.experiments.split import Split, in_time, split_rows
from schemas.text import short_digest


@dataclass(frozen=True, slots=True)
class PlantedLog:
    """The window and, per row, whether its item is shareable."""

    window: Window
    shareable_N: NDArray[np.bool_]


def planted_log(
    *,
    rows: int,
    users: int,
    items: int,
    shares: tuple[float, ...] = (0.6, 0.3, 0.1),
    seed: int = 0,
    days: int = 2,
    fresh_rows: bool = False,
) -> PlantedLog:
    """Deterministic in its arguments. fresh_rows: different rows of the same users, items and tastes."""
    rng = np.random.default_rng([seed, 77])
    scenarios, rank = len(shares), 2
    shareable_I = np.zeros(items, bool)
    shareable_I[rng.permutation(items)[: items // 2]] = True
    factor_UR = rng.normal(size=(users, rank))
    taste_KIR = rng.normal(size=(scenarios, items, rank)) / np.sqrt(rank)
    bias_KI = 1.5 * rng.normal(size=(scenarios, items))
    taste_KIR[:, shareable_I], bias_KI[:, shareable_I] = taste_KIR[0, shareable_I], bias_KI[0, shareable_I]
    if fresh_rows:
        rng = np.random.default_rng([seed, 78])
    scenario_N = rng.choice(scenarios, size=rows, p=np.array(shares) / sum(shares))
    user_N, item_N = rng.integers(users, size=rows), rng.integers(items, size=rows)
    logit_N = -1.2 + (factor_UR[user_N] * taste_KIR[scenario_N, item_N]).sum(1) + bias_KI[scenario_N, item_N]
    label_N = rng.random(rows) < 1 / (1 + np.exp(-logit_N))
    ids_NS = np.stack([user_N + 1, item_N + 1], axis=1).astype(np.int32)
    return PlantedLog(_window(ids_NS, scenario_N, label_N, users, items, scenarios, days), shareable_I[item_N])


def planted_split(*, rows: int, users: int, items: int, seed: int, name: str, test_rows: int = 0) -> Split:
    """80 / 10 / 10 % of a planted log, whose rows are independent draws, with its truth.

    test_rows: test on this many fresh rows instead of the last 10 %, in which a small scenario has few rows.
    """
    log = planted_log(rows=rows, users=users, items=items, seed=seed, days=10)
    split = split_rows(name, log.window, in_time(rows), log.shareable_N)
    if not test_rows:
        return split
    fresh = planted_log(rows=test_rows, users=users, items=items, seed=seed, fresh_rows=True)
    return replace(split, test=fresh.window)


def _window(
    ids_NS: NDArray[np.int32],
    scenario_N: NDArray[np.int64],
    label_N: NDArray[np.bool_],
    users: int,
    items: int,
    scenarios: int,
    days: int,
) -> Window:
    rows = len(label_N)
    nothing_N = torch.zeros(rows, dtype=torch.int64)
    return Window(
        dataset_name="planted",
        scenario_names=tuple(f"s{k}" for k in range(scenarios)),
        days=tuple(date(2026, 1, 1) + timedelta(days=d) for d in range(days)),
        layout=FieldLayout(
            names=("user", "item"),
            num_slots=(1, 1),
            num_rows=(users + 1, items + 1),
            item_field=1,
            hist_length=1,
            roles=("user", "item"),
        ),
        vocabulary_version="20260101-planted",
        table_versions={},
        instance_id_N=torch.arange(rows),
        day_N=(torch.arange(rows) * days // rows).int(),
        user_key_N=torch.from_numpy(ids_NS[:, 0].astype(np.int64)),
        scenario_N=torch.from_numpy(scenario_N.astype(np.int64)),
        label_N=torch.from_numpy(label_N.astype(np.float32)),
        slot_ids_NS=torch.from_numpy(ids_NS),
        hist_ids_HA=torch.zeros((1, 1), dtype=torch.int32),
        hist_scenario_H=torch.full((1,), -1, dtype=torch.int16),
        hist_start_N=nothing_N,
        hist_end_N=nothing_N,
        rank_N=torch.full((rows,), float("nan"), dtype=torch.float64),
        shared_N=torch.zeros(rows, dtype=torch.bool),
        fingerprint=short_digest(ids_NS.tobytes()),
    )
