"""FieldLayout: where each field's ids lie in a batch's slots and in the one embedding table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import accumulate
from typing import Any

from lake import reader as lake_reader
from schemas.commands import command
from schemas.dataset_spec import STATISTIC_IDS, DatasetSpec
from schemas.errors import TrainingError


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldLayout:
    """Fields in slot order. Field f owns slots [slot_starts[f], slot_starts[f] + num_slots[f]) of `slot_ids_BS` and
    rows [row_starts[f], row_starts[f] + num_rows[f]) of the embedding table; its row 0 is out of vocabulary.
    Behaviours use the rows of field `item_field`.
    """

    names: tuple[str, ...]
    num_slots: tuple[int, ...]
    num_rows: tuple[int, ...]
    item_field: int
    hist_length: int

    @property
    def num_fields(self) -> int:
        return len(self.names)

    @property
    def slot_starts(self) -> tuple[int, ...]:
        return _starts(self.num_slots)

    @property
    def row_starts(self) -> tuple[int, ...]:
        return _starts(self.num_rows)

    @property
    def total_slots(self) -> int:
        """S, the width of `slot_ids_BS`."""
        return sum(self.num_slots)

    @property
    def total_rows(self) -> int:
        """Rows of the embedding table."""
        return sum(self.num_rows)

    def of_fields(self, names: Sequence[str]) -> FieldLayout:
        """The layout of these fields alone, in this order. Raises TrainingError where one is not there."""
        item = self.names[self.item_field]
        if missing := [name for name in (*names, item) if name not in self.names or item not in names]:
            raise TrainingError(f"field {missing[0]!r} is not among those of the window: {', '.join(self.names)}")
        at = [self.names.index(name) for name in names]
        return FieldLayout(
            names=tuple(names),
            num_slots=tuple(self.num_slots[i] for i in at),
            num_rows=tuple(self.num_rows[i] for i in at),
            item_field=list(names).index(item),
            hist_length=self.hist_length,
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON metadata; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> FieldLayout:
        """Inverse of `to_dict`, also after a JSON round trip."""
        return cls(
            names=tuple(raw["names"]),
            num_slots=tuple(raw["num_slots"]),
            num_rows=tuple(raw["num_rows"]),
            item_field=int(raw["item_field"]),
            hist_length=int(raw["hist_length"]),
        )


def _starts(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(accumulate(sizes[:-1], initial=0))


def smallest_layout(dataset: DatasetSpec, ds: date = date.max) -> FieldLayout:
    """The fields known on day `ds` with one row each: before any vocabulary is, and enough to try a model on."""
    fields = dataset.encoded_fields_on(ds)
    names = tuple(f.name for f in fields)
    return FieldLayout(
        names=names,
        num_slots=tuple(f.max_values for f in fields),
        num_rows=(1,) * len(names),
        item_field=names.index(dataset.sequence.item_field),
        hist_length=dataset.sequence.max_length,
    )


def layout_for(
    dataset: DatasetSpec, vocabulary_version: str, table_version: int | None = None, ds: date = date.max
) -> FieldLayout:
    """The layout of the fields known on day `ds` whose tables hold every id of `vocabulary_version`.

    Raises TrainingError when that version is not in `vocabularies`.
    """
    rows = lake_reader.read_table(
        dataset,
        "vocabularies",
        columns=["field", "id"],
        filters={"vocabulary_version": vocabulary_version},
        version=table_version,
    )
    if rows.num_rows == 0:
        build = command("build_vocabularies", dataset, f"--ds {_first_day(vocabulary_version)}")
        raise TrainingError(
            f"vocabulary version {vocabulary_version!r} is not in {dataset.name}/vocabularies; run: {build}"
        )
    largest = rows.group_by("field").aggregate([("id", "max")])
    max_id = {f: int(i) for f, i in zip(largest["field"].to_pylist(), largest["id_max"].to_pylist(), strict=True)}
    # A statistic's bins are 0 .. STATISTIC_IDS at most; one row more than needed is cheaper than one too few.
    fields = dataset.encoded_fields_on(ds)
    num_rows = tuple((STATISTIC_IDS if f.is_statistic else max_id.get(f.name, 0)) + 1 for f in fields)
    return replace(smallest_layout(dataset, ds), num_rows=num_rows)


def newest_version(dataset: DatasetSpec, found: set[str], where: str) -> str:
    """The newest of `found` vocabulary versions, all of the data set's lineage.

    Raises TrainingError that names both lineages where they differ.
    """
    strange = sorted(v for v in found if v.rpartition("-")[2] != dataset.lineage)
    if strange:
        build = command("build_scenario_features", dataset, "--from .. --to ..")
        raise TrainingError(
            f"{where} was encoded with vocabulary {strange[0]!r}, but data set {dataset.name!r} now has lineage "
            f"{dataset.lineage!r} (fields, scenarios, vocabulary or days.start changed): ids of two lineages do not "
            f"mix; rebuild all days: {build}"
        )
    return max(found)


def _first_day(vocabulary_version: str) -> str:
    day = vocabulary_version.partition("-")[0]
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"
