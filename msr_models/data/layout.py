"""FieldLayout: where each field's ids lie in a batch's slots and in the one embedding table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake import reader as lake_reader
from lake.vocabularies import VOCABULARIES, largest_ids, published_versions, read_changes
from lake.vocabularies import live as live_rows
from msr_models.data.columns import Array
from schemas.commands import command
from schemas.dataset_spec import STATISTIC_IDS, DatasetSpec
from schemas.errors import TrainingError
from schemas.field_spec import Role


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldLayout:
    """Fields in slot order. Field f owns slots [slot_starts[f], slot_starts[f] + num_slots[f]) of `slot_ids_BS` and
    rows [row_starts[f], row_starts[f] + num_rows[f]) of the embedding table; its row 0 is out of vocabulary.
    A behaviour has the parts `behaviour_fields`: the item, then its attributes, each with the rows of its own field.

    live: of each field that evicts values, the ids that have rows, as ranges [first, end) in ascending order; empty for
    other fields, where every id up to num_rows - 1 has one, and altogether where no field evicts.
    roles: what each field is to a model (`EncodedField.role`); empty where nothing is known of any field.
    dense_names: fields whose normalised value is an input beside their id, in the order of `Batch.dense_BZ`.
    embedding_dims: of each field its `embedding_dim` of the data set, None where the model's counts; empty where no
    field has one.
    """

    names: tuple[str, ...]
    num_slots: tuple[int, ...]
    num_rows: tuple[int, ...]
    item_field: int
    hist_length: int
    live: tuple[tuple[tuple[int, int], ...], ...] = ()
    attribute_fields: tuple[int, ...] = ()
    roles: tuple[Role, ...] = ()
    embedding_dims: tuple[int | None, ...] = ()
    dense_names: tuple[str, ...] = ()

    @property
    def num_fields(self) -> int:
        return len(self.names)

    @property
    def num_vectors(self) -> int:
        """Vectors of a row: one per field, and one per dense value behind them."""
        return len(self.names) + len(self.dense_names)

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

    @property
    def behaviour_fields(self) -> tuple[int, ...]:
        """The A fields that a behaviour has an id of; all have one slot."""
        return (self.item_field, *self.attribute_fields)

    @property
    def behaviour_names(self) -> tuple[str, ...]:
        """Names of `behaviour_fields`."""
        return tuple(self.names[f] for f in self.behaviour_fields)

    def names_with(self, role: Role) -> tuple[str, ...]:
        """Names of the fields that have this role, in slot order."""
        return tuple(name for name, has in zip(self.names, self.roles, strict=False) if has == role)

    @property
    def own_dims(self) -> dict[str, int]:
        """Field -> its `embedding_dim`, of the fields that have one."""
        return {name: dim for name, dim in zip(self.names, self.embedding_dims, strict=False) if dim is not None}

    def widths(self, width: int) -> tuple[int, ...]:
        """Columns of each field's rows in a model of `width`: the field's own embedding_dim, never more than that."""
        return tuple(min(self.own_dims.get(name, width), width) for name in self.names)

    def with_own_dims(self, own_dims: Mapping[str, int]) -> FieldLayout:
        """The same fields with these `own_dims`."""
        dims = tuple(own_dims.get(name) for name in self.names)
        return replace(self, embedding_dims=dims if any(dims) else ())

    def without_dense(self) -> FieldLayout:
        """Ids alone."""
        return replace(self, dense_names=())

    def table_of(self, fields: Sequence[int]) -> FieldLayout:
        """The rows and slots of these fields alone, for a table of their own."""
        return FieldLayout(
            names=tuple(self.names[f] for f in fields),
            num_slots=tuple(self.num_slots[f] for f in fields),
            num_rows=tuple(self.num_rows[f] for f in fields),
            item_field=0,
            hist_length=0,
            live=tuple(self.live[f] for f in fields) if self.live else (),
        )

    def of_fields(self, names: Sequence[str]) -> FieldLayout:
        """The layout of these fields alone, in this order; behaviours lose the attributes that are not among them.

        Raises TrainingError where a field is not there.
        """
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
            attribute_fields=tuple(list(names).index(name) for name in self.behaviour_names[1:] if name in names),
            roles=tuple(self.roles[i] for i in at) if self.roles else (),
            dense_names=tuple(name for name in self.dense_names if name in names),
        ).with_own_dims(self.own_dims)

    def has_all_ids(self, f: int) -> bool:
        """Whether id and row are the same in field f: it does not evict."""
        return not (self.live and self.live[f])

    def ids_of(self, f: int) -> Array:
        """int64: the id of each row of field f, ascending; the first one is 0."""
        if self.has_all_ids(f):
            return np.arange(self.num_rows[f])
        return np.concatenate([np.zeros(1, np.int64), *(np.arange(first, end) for first, end in self.live[f])])

    def row_of_id(self, f: int) -> Array:
        """int64: the row of each id of field f, 0 for ids without one."""
        ids = self.ids_of(f)
        rows = np.zeros(ids[-1] + 1, np.int64)
        rows[ids] = np.arange(len(ids))
        return rows

    def rows_of(self, ids_NS: Array) -> Array:
        """Rows, within each slot's field, of slot ids that lie inside the layout's vocabulary; 0 for evicted ids."""
        rows_NS = ids_NS.copy()
        for f in range(self.num_fields):
            if not self.has_all_ids(f):
                rows, start = self.row_of_id(f), self.slot_starts[f]
                slots = slice(start, start + self.num_slots[f])
                ids = ids_NS[:, slots]
                rows_NS[:, slots] = rows[np.where(ids < len(rows), ids, 0)]
        return rows_NS

    def to_dict(self) -> dict[str, Any]:
        """For JSON metadata; `from_dict` reads it back."""
        raw = asdict(self)
        for name in ("live", "roles", "embedding_dims", "dense_names"):
            if not raw[name]:
                del raw[name]
        return raw

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> FieldLayout:
        """Inverse of `to_dict`, also after a JSON round trip."""
        return cls(
            names=tuple(raw["names"]),
            num_slots=tuple(raw["num_slots"]),
            num_rows=tuple(raw["num_rows"]),
            item_field=int(raw["item_field"]),
            hist_length=int(raw["hist_length"]),
            live=tuple(tuple((int(first), int(end)) for first, end in ranges) for ranges in raw.get("live", ())),
            attribute_fields=tuple(raw["attribute_fields"]),
            roles=tuple(raw.get("roles", ())),
            embedding_dims=tuple(raw.get("embedding_dims", ())),
            dense_names=tuple(raw.get("dense_names", ())),
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
        attribute_fields=tuple(names.index(name) for name in dataset.sequence.stored_fields[1:]),
        roles=tuple(f.role for f in fields),
        dense_names=tuple(f.name for f in dataset.dense_fields),
    ).with_own_dims({f.name: f.embedding_dim for f in fields if f.embedding_dim is not None})


def layout_for(
    dataset: DatasetSpec, vocabulary_version: str, table_version: int | None = None, ds: date = date.max
) -> FieldLayout:
    """The layout of the fields known on day `ds` whose tables hold every id of `vocabulary_version`.

    Raises TrainingError when that version is not in `vocabularies`.
    """
    changes = _changes(dataset, vocabulary_version, table_version)
    largest, evicting = largest_ids(dataset, changes), [f.name for f in dataset.fields if f.evict_after_days]
    # A statistic's bins are 0 .. STATISTIC_IDS at most; one row more than needed is cheaper than one too few.
    fields = dataset.encoded_fields_on(ds)
    num_rows = [(STATISTIC_IDS if f.is_statistic else largest.get(f.name, 0)) + 1 for f in fields]
    live: list[tuple[tuple[int, int], ...]] = [()] * len(num_rows)
    if evicting:
        values = live_rows(changes)
        for i, f in enumerate(fields):
            if f.name in evicting:
                ids = np.sort(values.filter(pc.equal(values["field"], f.name))["id"].to_numpy())
                num_rows[i], live[i] = len(ids) + 1, _ranges(ids)
    layout = replace(smallest_layout(dataset, ds), num_rows=tuple(num_rows))
    return replace(layout, live=tuple(live)) if any(live) else layout


def largest_ids_of(
    dataset: DatasetSpec, vocabulary_version: str, table_version: int | None = None, ds: date = date.max
) -> tuple[int, ...]:
    """The largest id that rows of the version or an earlier one may have, of each encoded field known on `ds`."""
    largest = largest_ids(dataset, _changes(dataset, vocabulary_version, table_version))
    return tuple(STATISTIC_IDS if f.is_statistic else largest.get(f.name, 0) for f in dataset.encoded_fields_on(ds))


def _changes(dataset: DatasetSpec, vocabulary_version: str, table_version: int | None) -> pa.Table:
    lake_reader.open_table(dataset, VOCABULARIES, table_version)  # named where it does not exist
    changes = read_changes(dataset, vocabulary_version, ["field", "id", "change"], table_version)
    if vocabulary_version not in published_versions(dataset, table_version):
        build = command("build_vocabularies", dataset, f"--ds {_first_day(vocabulary_version)}")
        raise TrainingError(
            f"vocabulary version {vocabulary_version!r} is not in {dataset.name}/vocabularies; run: {build}"
        )
    return changes


def _ranges(ids: Array) -> tuple[tuple[int, int], ...]:
    """Ascending ids as ranges [first, end)."""
    breaks = np.flatnonzero(np.diff(ids) != 1) + 1
    parts = zip([0, *breaks], [*breaks, len(ids)], strict=True) if len(ids) else ()
    return tuple((int(ids[start]), int(ids[end - 1]) + 1) for start, end in parts)


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
