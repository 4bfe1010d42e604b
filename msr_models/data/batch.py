"""Batch: the tensors of B impressions, as every model reads them.

Shapes: B rows, S slots, Z dense values, L behaviours, A parts of a behaviour, K scenarios, F fields, D width, E =
embedded width, V visits (row, scenario), J further labels (beside the main one).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """slot_ids_BS int32 (0 = out of vocabulary, or padding in slots of a multi-valued field), hist_ids_BLA int32 (item
    and attributes as in `FieldLayout.behaviour_fields`, newest behaviour last, 0 = out of vocabulary or padding),
    hist_scenario_BL int16 (where each behaviour happened, -1 = padding, or in none of the model's K scenarios),
    scenario_B int64, label_B float32, shared_B bool (all False where no masks are read).
    dense_BZ float32: the normalised values of the fields `FieldLayout.dense_names`; None where the data set has none.

    further_BJ float32: further labels; None where the data set has one label.
    num_shared: rows with shared_B where the host knows it; a step that needs it need not wait for the device then.
    """

    slot_ids_BS: Tensor
    hist_ids_BLA: Tensor
    hist_scenario_BL: Tensor
    scenario_B: Tensor
    label_B: Tensor
    shared_B: Tensor
    further_BJ: Tensor | None = None
    num_shared: int | None = None
    dense_BZ: Tensor | None = None

    def __len__(self) -> int:
        return int(self.label_B.shape[0])

    def in_one_scenario(self) -> Batch:
        """The same rows and behaviours, all in scenario 0."""
        return replace(
            self, scenario_B=torch.zeros_like(self.scenario_B), hist_scenario_BL=self.hist_scenario_BL.clamp(max=0)
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        on_host = self.shared_B.device.type == "cpu"
        return Batch(
            slot_ids_BS=self.slot_ids_BS.to(device, non_blocking=True),
            hist_ids_BLA=self.hist_ids_BLA.to(device, non_blocking=True),
            hist_scenario_BL=self.hist_scenario_BL.to(device, non_blocking=True),
            scenario_B=self.scenario_B.to(device, non_blocking=True),
            label_B=self.label_B.to(device, non_blocking=True),
            shared_B=self.shared_B.to(device, non_blocking=True),
            dense_BZ=None if self.dense_BZ is None else self.dense_BZ.to(device, non_blocking=True),
            further_BJ=None if self.further_BJ is None else self.further_BJ.to(device, non_blocking=True),
            num_shared=int(self.shared_B.sum()) if on_host and self.num_shared is None else self.num_shared,
        )
