"""TableSpec: columns, keys, partitions and constraints of a Delta table; the writers in `lake/` enforce it.

Tables whose rows Python handles one by one declare them as a `Row` class, from which the columns follow, so that the
type checker and the table know the same fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import NoneType
from typing import Any, ClassVar, Literal, get_args, get_type_hints

import pyarrow as pa
from pydantic import ConfigDict, model_validator

from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.spec import Spec

Severity = Literal["fail", "warn"]
FieldColumns = Literal["none", "raw", "encoded", "behaviour"]


class _TablePart(Spec):
    model_config = ConfigDict(arbitrary_types_allowed=True)


class Column(_TablePart):
    """One column. `volatile` ones (clocks, paths, Delta versions) may differ in a rerun; content hashes skip them.

    `added` ones may be missing from a table that exists, and are added to it: older rows have null there, although
    rows that are written now must have a value unless it is `nullable`.
    """

    name: str
    type: pa.DataType
    doc: str
    nullable: bool = False
    volatile: bool = False
    added: bool = False


@dataclass(frozen=True, slots=True)
class Doc:
    """Annotation of a Row's field: its description, and its Arrow type where the default does not fit."""

    text: str
    type: pa.DataType | None = None
    volatile: bool = False
    added: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Base of typed rows; `table` names the row's table. Fields are `Annotated[type, Doc("...")]`."""

    table: ClassVar[str]


_ARROW_TYPES: dict[type, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    datetime: pa.timestamp("us", tz="UTC"),
}


def columns_of(row: type[Row]) -> tuple[Column, ...]:
    """The columns that a Row class declares, in its order; `| None` makes a column nullable."""
    hints = get_type_hints(row, include_extras=True)
    return tuple(_column(name, *get_args(hint)) for name, hint in hints.items() if name != "table")


def _column(name: str, kind: Any, doc: Doc) -> Column:
    kinds = set(get_args(kind) or (kind,))
    nullable = NoneType in kinds
    (plain,) = kinds - {NoneType}
    arrow = doc.type or _ARROW_TYPES[plain]
    return Column(name=name, type=arrow, doc=doc.text, nullable=nullable, volatile=doc.volatile, added=doc.added)


# A partition was written in one transaction, so that its first row stands for all
FINGERPRINT = Column(
    name="spec_fingerprint",
    type=pa.string(),
    doc="what the row was made of: a row of the table provenance",
    volatile=True,
    added=True,
)


class Constraint(_TablePart):
    """A Delta CHECK constraint; `sql` must be understood by Spark and DataFusion alike."""

    name: str
    sql: str


class Expectation(_TablePart):
    """A Great Expectations expectation: the class name, its arguments, and what a violation does.

    `fail` stops the day before anything is committed; `warn` is recorded in `audits`.
    """

    type: str
    kwargs: dict[str, Any]
    severity: Severity = "fail"


class TableSpec(_TablePart):
    """One Delta table at `<lake>/<dataset>/<name>`.

    `written_by` names the command in `jobs/` that writes it, `row` its typed row where there is one.
    `field_columns` says which of the data set's fields become columns beside the fixed ones: `raw` values (x_*),
    `encoded` ids (f_*) or the encoded attributes of `behaviour`s (hist_f_*); `for_dataset` puts them in, and the
    further labels (label_*) beside raw values and encoded ids.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    partition_by: tuple[str, ...]
    written_by: str
    row: type[Row] | None = None
    constraints: tuple[Constraint, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    field_columns: FieldColumns = "none"

    @model_validator(mode="after")
    def _names_are_known(self) -> TableSpec:
        unknown = (set(self.keys) | set(self.partition_by)) - set(self.column_names)
        if unknown:
            raise ValueError(f"table {self.name}: keys or partitions {sorted(unknown)} are not among its columns")
        return self

    @property
    def column_names(self) -> list[str]:
        return [c.name for c in self.columns]

    @property
    def replaced_by(self) -> tuple[str, ...]:
        """Columns that identify the rows that one write replaces: the partition, or the key where there is none."""
        return self.partition_by or self.keys

    @property
    def content_columns(self) -> list[str]:
        """Columns that a content hash covers: everything but the volatile ones."""
        return [c.name for c in self.columns if not c.volatile]

    def require_columns(self, names: Sequence[str]) -> None:
        """Raises TableError where `names` are not the table's columns, in any order."""
        missing = [name for name in self.column_names if name not in names]
        surplus = [name for name in names if name not in self.column_names]
        if missing or surplus or len(names) != len(set(names)):
            raise TableError(
                f"table {self.name}: the rows lack columns {missing} and have unknown columns {surplus}; they have "
                f"{names}, the spec in schemas/tables/{self.name}.py has {self.column_names}"
            )

    def require_partition(self, partition: Mapping[str, str]) -> None:
        """Raises TableError where `partition` names no column, or one that rows are not replaced by."""
        unknown = sorted(set(partition) - set(self.replaced_by))
        if unknown or not partition:
            raise TableError(
                f"rows of table {self.name} are replaced by {list(self.replaced_by)}, not by {unknown or 'nothing'}"
            )

    def arrow_schema(self) -> pa.Schema:
        """The table's schema; `for_dataset` first where the table has field columns."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    def stored_schema(self) -> pa.Schema:
        """The schema that the table is created with: columns that older rows may lack take nulls."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable or c.added) for c in self.columns])

    def for_dataset(self, dataset: DatasetSpec) -> TableSpec:
        """This table with the data set's field columns appended (itself where it has none)."""
        if self.field_columns == "none":
            return self
        extra = {
            "raw": _raw_columns,
            "encoded": _encoded_columns,
            "behaviour": _behaviour_columns,
        }[self.field_columns](dataset)
        expectations = self.expectations + (_label_expectations(dataset) if self.field_columns == "raw" else ())
        changes = {"columns": self.columns + extra, "expectations": expectations, "field_columns": "none"}
        return self.model_copy(update=changes)


def _label_columns(dataset: DatasetSpec) -> tuple[Column, ...]:
    return tuple(
        Column(name=column, type=pa.int32(), added=True, doc=f"further label {name}: 1 = positive, 0 = negative")
        for name, column in dataset.columns.label_columns.items()
    )


def _label_expectations(dataset: DatasetSpec) -> tuple[Expectation, ...]:
    return tuple(
        Expectation(type="ExpectColumnValuesToBeInSet", kwargs={"column": column, "value_set": [0, 1]})
        for column in dataset.columns.label_columns.values()
    )


def _raw_columns(dataset: DatasetSpec) -> tuple[Column, ...]:
    kinds = {"categorical": pa.string(), "numeric": pa.float64(), "multi_valued": pa.list_(pa.string())}
    return _label_columns(dataset) + tuple(
        Column(name=f.raw_column, type=kinds[f.kind], nullable=True, added=True, doc=f"raw value of field {f.name}")
        for f in dataset.fields
    )


def _encoded_columns(dataset: DatasetSpec) -> tuple[Column, ...]:
    return (
        _label_columns(dataset)
        + tuple(
            Column(
                name=f.column,
                type=pa.list_(pa.int32()) if f.max_values > 1 else pa.int32(),
                doc=f"id of field {f.name}, 0 = out of vocabulary",
                added=True,
            )
            for f in dataset.encoded_fields
        )
        + tuple(
            Column(
                name=f.dense_column, type=pa.float32(), doc=f"normalised value of field {f.name}, 0 = none", added=True
            )
            for f in dataset.dense_fields
        )
    )


def _behaviour_columns(dataset: DatasetSpec) -> tuple[Column, ...]:
    return tuple(
        Column(
            name=f"hist_f_{name}", type=pa.list_(pa.int32()), added=True, doc=f"id of field {name} of each behaviour"
        )
        for name in dataset.sequence.attributes
    )
