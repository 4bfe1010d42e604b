"""Input vectors split into features common to all scenarios and features specific to one."""

from __future__ import annotations

import torch
from torch import Tensor

from msr_models.data.layout import FieldLayout
from schemas.errors import TrainingError


class FeaturePartition:
    """Orders vectors: common ones, then specific ones (Tang et al. 2023, eq. 4).

    specific_fields: names; None: the statistics per scenario. The vector of behaviours is common. Raises TrainingError
    for an unknown name, and if no field remains common.
    """

    def __init__(self, layout: FieldLayout, num_vectors: int, specific_fields: tuple[str, ...] | None) -> None:
        if specific_fields is None:
            specific_fields = layout.names_with("statistic")
        unknown = [name for name in specific_fields if name not in layout.names]
        if unknown:
            raise TrainingError(
                f"option specific_fields names {unknown[0]!r}, which is no field of the data set; "
                f"known fields: {', '.join(layout.names)}"
            )
        is_specific = [name in specific_fields for name in layout.names]
        is_specific += [False] * (num_vectors - layout.num_fields)
        self.num_specific = sum(is_specific)
        self.num_common = num_vectors - self.num_specific
        if self.num_common == 0:
            raise TrainingError(
                f"option specific_fields {list(specific_fields)} leaves none that scenarios share; name fewer"
            )
        # Neighbours of one kind move together, so that a split costs one pass over the gradient
        self._lengths: list[int] = []
        kinds: list[bool] = []
        for specific in is_specific:
            if kinds and kinds[-1] == specific:
                self._lengths[-1] += 1
            else:
                self._lengths.append(1)
                kinds.append(specific)
        self._order = sorted(range(len(kinds)), key=lambda run: kinds[run])

    def __call__(self, x_BFD: Tensor) -> Tensor:
        """[B, vectors, D] in field order -> the same vectors, common ones first, each kind in field order."""
        if self.num_specific == 0:
            return x_BFD
        parts = torch.split(x_BFD, self._lengths, dim=1)
        return torch.cat([parts[run] for run in self._order], dim=1)
