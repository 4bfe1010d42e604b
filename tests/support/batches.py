"""Random batches of a small layout, for tests of modules and models that need no lake."""

from __future__ import annotations

from dataclasses import replace

import torch

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout

LAYOUT = FieldLayout(
    names=("user", "item", "tags", "price"),
    num_slots=(1, 1, 3, 1),
    num_rows=(11, 9, 5, 4),
    item_field=1,
    hist_length=6,
    roles=("user", "item", "feature", "feature"),
)


# The same, but a behaviour has a price beside its item
WITH_ATTRIBUTE = replace(LAYOUT, attribute_fields=(3,))
# The same, with two dense values: the price, and one more that has no other use here
WITH_DENSE = replace(WITH_ATTRIBUTE, dense_names=("price", "age"))
# The same without, with rows of their own width for all fields but the tags
WITH_DIMS = replace(WITH_ATTRIBUTE, embedding_dims=(4, 7, None, 2))


def random_batch(
    rows: int,
    num_scenarios: int,
    *,
    seed: int = 0,
    scenarios: list[int] | None = None,
    share: float = 0.0,
    layout: FieldLayout = LAYOUT,
) -> Batch:
    """`scenarios`: the ones that occur (default all, each at least once where rows suffice)."""
    generator = torch.Generator().manual_seed(seed)
    slots = [
        torch.randint(0, n, (rows, s), generator=generator)
        for n, s in zip(layout.num_rows, layout.num_slots, strict=True)
    ]
    present = torch.tensor(scenarios if scenarios is not None else range(num_scenarios))
    order = torch.randperm(rows, generator=generator)
    history = [torch.randint(0, layout.num_rows[layout.item_field], (rows, layout.hist_length), generator=generator)]
    label_B = torch.randint(0, 2, (rows,), generator=generator).float()
    shared_B = torch.rand(rows, generator=generator) < share
    for f in layout.attribute_fields:
        history.append(torch.randint(0, layout.num_rows[f], history[0].shape, generator=generator))
    dense = len(layout.dense_names)
    hist_ids_BLA = torch.stack(history, dim=2).to(torch.int32)
    happened_BL = torch.randint(0, num_scenarios, history[0].shape, generator=generator)
    return Batch(
        slot_ids_BS=torch.cat(slots, dim=1).to(torch.int32),
        hist_ids_BLA=hist_ids_BLA,
        hist_scenario_BL=happened_BL.where((hist_ids_BLA > 0).any(2), -1).to(torch.int16),
        scenario_B=present[order % len(present)],
        label_B=label_B,
        shared_B=shared_B,
        dense_BZ=torch.randn((rows, dense), generator=generator).clamp(-5, 5) if dense else None,
    )


def take(batch: Batch, rows: torch.Tensor) -> Batch:
    """Some rows of a batch."""
    return Batch(
        slot_ids_BS=batch.slot_ids_BS[rows],
        hist_ids_BLA=batch.hist_ids_BLA[rows],
        hist_scenario_BL=batch.hist_scenario_BL[rows],
        scenario_B=batch.scenario_B[rows],
        label_B=batch.label_B[rows],
        shared_B=batch.shared_B[rows],
        dense_BZ=None if batch.dense_BZ is None else batch.dense_BZ[rows],
    )
