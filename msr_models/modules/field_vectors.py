"""FieldVectors, what models know of embeddings: a vector per field and behaviour, whatever tables hold the rows."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.modules.id_rows import IdRows

# Small whatever the number of ids: a vector of noise that an id has before its first rows must not count
INITIAL_STD = 0.01


class FieldVectors(nn.Module, ABC):
    """Slot ids [B, S] -> one vector of width D per field, in field order; see FieldEmbedding for what ids mean. Behind
    them x_z w_z for each dense value x_z, w_z a trained vector (AutoInt's numeric fields, Song et al. 2019, section
    4.2), so that a model has F + Z vectors of a row.

    A behaviour is the sum of the vectors of its known parts (item and attributes, ids above 0), each from its own
    field's rows; one without a known part is padding.
    """

    def __init__(self, layout: FieldLayout, width: int) -> None:
        super().__init__()
        self.layout = layout
        self.width = width
        self.id_rows = IdRows(layout)

    def make_dense(self, generator: torch.Generator) -> None:
        """Initial w_z: as those of ids, of which they are one more."""
        self.dense_ZD: nn.Parameter | None = None
        if self.layout.dense_names:
            weight_ZD = torch.empty(len(self.layout.dense_names), self.width)
            self.dense_ZD = nn.Parameter(weight_ZD.normal_(std=INITIAL_STD, generator=generator))

    def fields(self, batch: Batch) -> Tensor:
        """[B, F + Z, D]. Raises ValueError where the batch has no dense values and the layout does."""
        of_ids_BFD = self.of_slots(batch.slot_ids_BS)
        if self.dense_ZD is None:
            return of_ids_BFD
        if batch.dense_BZ is None:
            raise ValueError(f"the batch has no dense values, the model reads those of {self.layout.dense_names}")
        return torch.cat([of_ids_BFD, batch.dense_BZ.to(self.dense_ZD.dtype)[:, :, None] * self.dense_ZD], dim=1)

    @abstractmethod
    def of_slots(self, slot_ids_BS: Tensor) -> Tensor:
        """The fields' vectors from the slots' ids, [B, F, D]."""

    @abstractmethod
    def history(self, batch: Batch) -> Tensor:
        """Vectors of the behaviours, [B, L, D]; undefined where `history_mask` is False."""

    @abstractmethod
    def pooled_history(self, batch: Batch) -> Tensor:
        """Mean of the behaviours' vectors, [B, D]; zeros where the layout keeps none."""

    @abstractmethod
    def vectors_of(self, f: int) -> Tensor:
        """Vectors of all rows of field f, [rows of the field, D]."""

    def history_mask(self, batch: Batch) -> Tensor:
        """[B, L] bool: False where no part of the behaviour is known, as in padding."""
        known_BLA = self._history_ids(batch) > 0
        return known_BLA.squeeze(2) if known_BLA.shape[2] == 1 else known_BLA.any(2)

    def pooled_history_by_scenario(self, batch: Batch, num_scenarios: int) -> Tensor:
        """Mean of the behaviours that happened in each scenario, [B, K, D]; zeros where none did."""
        scenarios_K = torch.arange(num_scenarios, device=batch.hist_scenario_BL.device)
        is_in_BKL = (batch.hist_scenario_BL[:, None] == scenarios_K[:, None]) & self.history_mask(batch)[:, None]
        share_BKL = is_in_BKL / is_in_BKL.sum(2, keepdim=True).clamp(min=1)
        vectors_BLD = self.history(batch)
        return torch.bmm(share_BKL.to(vectors_BLD.dtype), vectors_BLD)

    def history_in_scenario(self, batch: Batch, row_V: Tensor, scenario_V: Tensor, num_scenarios: int) -> Tensor:
        """Mean of the behaviours of row row_V[v] that happened in scenario_V[v], [V, D]; zeros where none did."""
        pooled_BKD = self.pooled_history_by_scenario(batch, num_scenarios)
        return pooled_BKD.flatten(0, 1).index_select(0, row_V * num_scenarios + scenario_V)

    def target(self, vectors_RFD: Tensor, parts_RA: Tensor) -> Tensor:
        """What a behaviour with the row's own item would be, [R, D]: the sum of the row's `target_parts`.

        vectors_RFD: the fields' vectors, as they are or after a model's layers.
        """
        fields = self.layout.behaviour_fields
        if len(fields) == 1:
            return vectors_RFD[:, fields[0]]
        vectors_RAD = torch.stack([vectors_RFD[:, f] for f in fields], dim=1)
        return (vectors_RAD * parts_RA[..., None]).sum(1)

    def target_parts(self, batch: Batch) -> Tensor:
        """[B, A] bool: the known parts of the row's own item; all of them where none is known."""
        slots = [self.layout.slot_starts[f] for f in self.layout.behaviour_fields]
        ids_BA = torch.stack([batch.slot_ids_BS[:, slot] for slot in slots], dim=1)
        is_known_BA = self._part_rows(ids_BA) > 0
        return is_known_BA | ~is_known_BA.any(1, keepdim=True)

    def _history_ids(self, batch: Batch) -> Tensor:
        """[B, L, A]: rows of the behaviours' parts within their fields, 0 where unknown."""
        return self._part_rows(batch.hist_ids_BLA)

    def _history_shares(self, ids_BLA: Tensor) -> Tensor:
        """Factor of each part in the mean of the behaviours, [B, L, A] fp32; 0 where unknown."""
        known_BLA = ids_BLA > 0
        return known_BLA / known_BLA.any(2).sum(1).clamp(min=1)[:, None, None]

    def _part_rows(self, ids: Tensor) -> Tensor:
        """Ids of a behaviour's parts [..., A] -> rows within their fields."""
        fields = self.layout.behaviour_fields
        if ids.shape[-1] != len(fields):
            raise ValueError(f"behaviours have {ids.shape[-1]} parts, the model reads {self.layout.behaviour_names}")
        if len(fields) == 1:
            rows: Tensor = self.id_rows(ids, fields[0])
            return rows
        return torch.stack([self.id_rows(ids[..., a], f) for a, f in enumerate(fields)], dim=-1)
