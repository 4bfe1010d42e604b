"""The prior of PPNet: the vectors of user, item and the like, which personalise a network."""

from __future__ import annotations

import torch
from torch import Tensor

from msr_models.data.layout import FieldLayout
from schemas.errors import TrainingError


class PriorFields:
    """[E_user ; E_item ; ...] of a row. names: fields; None: those of the role user, where there are any, and the item.

    The item is the field of that role, or else the one that behaviours have.
    Raises TrainingError for a name that is no field.
    """

    def __init__(self, layout: FieldLayout, names: tuple[str, ...] | None, width: int) -> None:
        if names is None:
            item = layout.names_with("item") or (layout.names[layout.item_field],)
            names = (*layout.names_with("user"), *item)
        unknown = [name for name in names if name not in layout.names]
        if unknown:
            raise TrainingError(
                f"option gate_fields: {unknown[0]!r} is no field; known fields: {', '.join(layout.names)}"
            )
        self.names, self.width = names, width
        self.starts = [layout.names.index(name) * width for name in names]

    @property
    def total_width(self) -> int:
        """P."""
        return len(self.names) * self.width

    def __call__(self, e_BE: Tensor) -> Tensor:
        """[B, P] from e_BE, in which the fields come first."""
        return torch.cat([e_BE[:, start : start + self.width] for start in self.starts], dim=1)
