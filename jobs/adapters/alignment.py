"""Frames of several files as one: columns by name, one type each, and one warning or error per file that lacks some."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, IntegralType, NumericType, StringType, StructType

from jobs.adapters.raw_log import FileGroup, lacks_columns, quoted_name
from jobs.transforms.raw_columns import (
    ADAPTER_COLUMNS,
    REFUSED_DETAIL,
    REFUSED_REASON,
    id_columns,
    nullable_columns,
    required_columns,
)
from jobs.transforms.values import canonical_text, exact_limit, is_inexact
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SourceError

log = logging.getLogger(__name__)


def with_nested(frame: DataFrame, dataset: DatasetSpec) -> DataFrame:
    """The frame with the nested fields that the YAML names by path (`ctx.place`) as columns of that name."""
    paths = [name for name in required_columns(dataset) if name not in frame.columns and _is_path(frame.schema, name)]
    fields = {path: F.col(".".join(quoted_name(part) for part in path.split("."))) for path in paths}
    return frame.select("*", *[field.alias(path) for path, field in fields.items()])


def check_files(groups: Sequence[FileGroup], dataset: DatasetSpec, path: str) -> None:
    """Raise SourceError where files lack a column that may not be empty, or all lack one; else warn of each file."""
    everywhere = {name for group in groups for name in group.columns}
    for group in groups:
        missing = [name for name in required_columns(dataset) if name not in group.columns]
        fatal = [name for name in missing if name not in everywhere or name not in nullable_columns(dataset)]
        if fatal:
            folder = path if len(groups) == 1 else f"{path}, file {names_of(group)},"
            raise SourceError(lacks_columns(dataset, folder, fatal, group.columns))
        if missing:
            log.warning(f"{dataset.name}: {names_of(group)} lacks columns {missing}: they are null there")


def names_of(group: FileGroup) -> str:
    """The group's file names, at most three."""
    names = [file.name for file in group.files]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def union(frames: Sequence[DataFrame], labels: Sequence[str], dataset: DatasetSpec) -> DataFrame:
    """All rows; a column that a frame lacks is null there, and one of several types is text.

    Raises SourceError where types have no text in common, such as a time and a number; `labels` name the frames.
    """
    if len(frames) == 1:
        return frames[0]
    mixed = _mixed_columns(frames, labels, dataset)
    aligned = [_as_text(frame, mixed, id_columns(dataset)) for frame in frames]
    return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), aligned)


def _mixed_columns(frames: Sequence[DataFrame], labels: Sequence[str], dataset: DatasetSpec) -> list[str]:
    """Columns with several types, all of which have a text."""
    mixed = []
    for name in dict.fromkeys(name for frame in frames for name in frame.columns):
        kinds = {
            label: frame.schema[name].dataType
            for frame, label in zip(frames, labels, strict=True)
            if name in frame.columns
        }
        if len({kind.simpleString() for kind in kinds.values()}) == 1:
            continue
        are_plain = all(isinstance(kind, StringType | NumericType | BooleanType) for kind in kinds.values())
        if name in required_columns(dataset) and not are_plain:
            shown = ", ".join(f"{kind.simpleString()} in {label}" for label, kind in kinds.items())
            raise SourceError(
                f"the log of {dataset.name}: column {name!r} is {shown}: these cannot be compared; deliver the files "
                "with one type"
            )
        mixed.append(name)
    return mixed


def _as_text(frame: DataFrame, mixed: Sequence[str], ids: Sequence[str]) -> DataFrame:
    """The frame with the `mixed` columns as text; a row with an id that is no exact integer is refused (float_id)."""
    texts: dict[str, Column] = {}
    details: list[Column] = []
    for name in (name for name in frame.columns if name in mixed):
        kind, column = frame.schema[name].dataType, F.col(quoted_name(name))
        texts[name] = _text(column, kind)
        if name in ids and (limit := exact_limit(kind)) is not None:
            shown = F.concat(F.lit(f"{name}="), column.cast("string"))
            details.append(F.when(is_inexact(column, limit), shown))
    if details:
        detail = F.coalesce(F.col(REFUSED_DETAIL), *details)
        reason = F.coalesce(F.col(REFUSED_REASON), F.when(F.coalesce(*details).isNotNull(), F.lit("float_id")))
        texts |= {REFUSED_REASON: reason, REFUSED_DETAIL: detail}
    return frame.withColumns(texts) if texts else frame


def _text(column: Column, kind: DataType) -> Column:
    """The text of a value, exact where it is a whole number; lists and the like as JSON."""
    if isinstance(kind, StringType | BooleanType | IntegralType):
        return column.cast("string")
    if isinstance(kind, NumericType):
        return F.coalesce(canonical_text(column, kind), F.when(~F.isnan(column.cast("double")), column.cast("string")))
    return F.to_json(F.struct(column))


def _is_path(schema: StructType, path: str) -> bool:
    """Whether the dotted path leads through structs to a field."""
    kind: DataType = schema
    for part in path.split("."):
        if not isinstance(kind, StructType) or part not in kind.names:
            return False
        kind = kind[part].dataType
    return True


def own_columns(frame: DataFrame) -> tuple[str, ...]:
    """The log's columns of a frame."""
    return tuple(name for name in frame.columns if name not in ADAPTER_COLUMNS)
