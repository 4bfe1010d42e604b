"""Carry weights into a model that has grown: scenarios were appended, or fields with `since` came in.

Both are found by shape: the axes of a weight that differ between the two models. A new scenario starts from the mean
of the others (or from a named one), a new field's places keep the fresh model's values, and every other weight is
copied bit by bit. An axis whose places cannot be told apart is an error, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from msr_models.data.layout import FieldLayout
from schemas.errors import TrainingError

# Modules that exist once per scenario instead of stacking their weights
_PER_SCENARIO = re.compile(r"^copies\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class NewScenarios:
    """K grows from `before` to `now`; start: the scenario whose weights new ones get, None: the mean of all."""

    before: int
    now: int
    start: int | None = None

    def grow(self, name: str, old: Tensor, fresh: Tensor) -> Tensor:
        """`old` in the shape of `fresh`. Raises TrainingError where an axis does not run over scenarios."""
        grown = old
        for axis, (size, wanted) in enumerate(zip(old.shape, fresh.shape, strict=True)):
            if size != wanted:
                per_scenario, remainder = divmod(wanted - size, self.now - self.before)
                if remainder or per_scenario * self.before > size:
                    raise _unknown(name, old, fresh)
                grown = self._grow_axis(grown, axis, per_scenario)
        return grown

    def _grow_axis(self, weight: Tensor, axis: int, per_scenario: int) -> Tensor:
        """An axis with `per_scenario` places of each scenario in turn, and then places of none."""
        own = weight.narrow(axis, 0, per_scenario * self.before)
        rest = weight.narrow(axis, own.shape[axis], weight.shape[axis] - own.shape[axis])
        blocks = own.reshape(*own.shape[:axis], self.before, per_scenario, *own.shape[axis + 1 :])
        mean = blocks.double().mean(axis).to(weight.dtype)
        one = mean if self.start is None else blocks.select(axis, self.start)
        return torch.cat([own, *[one] * (self.now - self.before), rest], dim=axis)

    def source_names(self, name: str, old: Mapping[str, Tensor]) -> list[str]:
        """Weights of `old` that a weight of a new scenario's own module starts from; none for other weights."""
        found = _PER_SCENARIO.match(name)
        if found is None or int(found[1]) < self.before:
            return []
        sources = range(self.before) if self.start is None else [self.start]
        return [n for k in sources if (n := f"copies.{k}.{name[found.end() :]}") in old]


@dataclass(frozen=True, slots=True)
class NewFields:
    """The layout grows by fields; those of `before` keep their names, wherever they lie in `now`."""

    before: FieldLayout
    now: FieldLayout

    def grow(self, name: str, old: Tensor, fresh: Tensor) -> Tensor:
        """`old` in the shape of `fresh`. Raises TrainingError where an axis does not run over fields."""
        grown = old
        for axis, (size, wanted) in enumerate(zip(old.shape, fresh.shape, strict=True)):
            if size == wanted:
                continue
            places = self._places(size, wanted)
            if places is None:
                raise _unknown(name, old, fresh)
            # Axes after this one still have their old sizes: what is fresh there is cut to them
            base = fresh[tuple(slice(0, n) for n in (*grown.shape[:axis], wanted, *grown.shape[axis + 1 :]))]
            grown = base.clone().index_copy_(axis, places, grown)
        return grown

    def _places(self, size: int, wanted: int) -> Tensor | None:
        """Where each old place of an axis lies now: equal blocks per field, then places that are no field's."""
        for names, new_names in self._orders():
            added = len(new_names) - len(names)
            if not added or (wanted - size) % added:
                continue
            block = (wanted - size) // added
            rest = size - block * len(names)
            if block <= 0 or rest < 0 or rest % block:
                continue
            starts = [new_names.index(name) * block for name in names]
            starts += [len(new_names) * block + n * block for n in range(rest // block)]
            return torch.tensor([start + n for start in starts for n in range(block)])
        return None

    def _orders(self) -> list[tuple[Sequence[str], Sequence[str]]]:
        """Fields that an axis may run over: all, or those that all scenarios share (FeaturePartition)."""
        common = [
            tuple(n for n in layout.names if n not in layout.names_with("statistic"))
            for layout in (self.before, self.now)
        ]
        return [(self.before.names, self.now.names), (common[0], common[1])]


def _unknown(name: str, old: Tensor, fresh: Tensor) -> TrainingError:
    return TrainingError(
        f"weight {name} of the checkpoint has shape {list(old.shape)}, the new model has {list(fresh.shape)}: this "
        "model cannot grow by scenarios or fields; set training.start: scratch"
    )
