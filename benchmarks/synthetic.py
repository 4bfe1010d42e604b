"""Windows of random impressions in memory for the step benchmarks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import date

import torch

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.data.source import ResidentRows
from msr_models.data.window import Window

FIELDS = 18


def field_sizes(total_rows: int) -> tuple[int, ...]:
    """FIELDS sizes that add up to total_rows: a third, a sixth, the rest, and small ones that double from 8 on."""
    small = [8 * 2 ** min(n, 9) for n in range(FIELDS - 3)]
    large = [total_rows // 3, total_rows // 6]
    return (*large, total_rows - sum(small) - sum(large), *small)


def synthetic_window(rows: int, table_rows: int, num_scenarios: int, share: float, seed: int = 0) -> Window:
    """Skewed ids (size * u^3, u uniform): few are in every batch, most are rare. Scenarios of equal size."""
    generator = torch.Generator().manual_seed(seed)
    sizes = field_sizes(table_rows)
    ids = [(torch.rand(rows, generator=generator) ** 3 * size).to(torch.int32) for size in sizes]
    nothing_N = torch.zeros(rows, dtype=torch.int32)
    return Window(
        dataset_name="synthetic",
        scenario_names=tuple(f"s{k}" for k in range(num_scenarios)),
        days=(date(2026, 1, 1),),
        layout=FieldLayout(
            names=tuple(f"f{n}" for n in range(FIELDS)),
            num_slots=(1,) * FIELDS,
            num_rows=sizes,
            item_field=0,
            hist_length=1,
        ),
        vocabulary_version="synthetic",
        table_versions={},
        instance_id_N=torch.arange(rows),
        day_N=nothing_N,
        user_key_N=torch.arange(rows),
        scenario_N=torch.randint(num_scenarios, (rows,), generator=generator),
        label_N=(torch.rand(rows, generator=generator) < 0.3).float(),
        slot_ids_NS=torch.stack(ids, dim=1),
        hist_ids_HA=torch.zeros((1, 1), dtype=torch.int32),
        hist_scenario_H=torch.full((1,), -1, dtype=torch.int16),
        hist_start_N=nothing_N,
        hist_end_N=nothing_N,
        rank_N=torch.full((rows,), float("nan"), dtype=torch.float64),
        shared_N=torch.rand(rows, generator=generator) < share,
        fingerprint="synthetic",
    )


def endless_batches(window: Window, batch_size: int) -> Iterator[Batch]:
    """Shuffled batches of the window, epoch after epoch."""
    data = ResidentRows(window, torch.arange(len(window), device=window.label_N.device))
    for epoch in itertools.count(1):
        yield from data.batches(batch_size, 1, epoch)
