"""Random batches of a small layout, for tests of modules and models that need no lake."""

from __future__ import annotations

import torch

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout

LAYOUT = FieldLayout(
    names=("user", "item", "tags", "price"), num_slots=(1, 1, 3, 1), num_rows=(11, 9, 5, 4), item_field=1, hist_length=6
)


def random_batch(
    rows: int, num_scenarios: int, *, seed: int = 0, scenarios: list[int] | None = None, share: float = 0.0
) -> Batch:
    """`scenarios`: the ones that occur (default all, each at least once where rows suffice)."""
    generator = torch.Generator().manual_seed(seed)
    slots = [
        torch.randint(0, n, (rows, s), generator=generator)
        for n, s in zip(LAYOUT.num_rows, LAYOUT.num_slots, strict=True)
    ]
    present = torch.tensor(scenarios if scenarios is not None else range(num_scenarios))
    order = torch.randperm(rows, generator=generator)
    return Batch(
        slot_ids_BS=torch.cat(slots, dim=1).to(torch.int32),
        hist_item_ids_BL=torch.randint(0, LAYOUT.num_rows[1], (rows, LAYOUT.hist_length), generator=generator).to(
            torch.int32
        ),
        scenario_B=present[order % len(present)],
        label_B=torch.randint(0, 2, (rows,), generator=generator).float(),
        shared_B=torch.rand(rows, generator=generator) < share,
    )


def take(batch: Batch, rows: torch.Tensor) -> Batch:
    """Some rows of a batch."""
    return Batch(
        slot_ids_BS=batch.slot_ids_BS[rows],
        hist_item_ids_BL=batch.hist_item_ids_BL[rows],
        scenario_B=batch.scenario_B[rows],
        label_B=batch.label_B[rows],
        shared_B=batch.shared_B[rows],
    )
