"""A day with too many refused rows: what was refused, the likely cause, and what helps, in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.transforms import canonical
from schemas.dataset_spec import DatasetSpec
from schemas.tables.forgotten_users import REASON as FORGOTTEN

_DETAILS, _EXAMPLES, _LONG = 5, 3, 160
_DECIMAL_COMMA = re.compile(r"=[^=]*\d,\d+\s*$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """Refused rows of a day: rows per reason, the most frequent (detail, rows) of each reason, a few raw records."""

    rows_in: int
    reasons: Mapping[str, int]
    details: Mapping[str, Sequence[tuple[str, int]]]
    examples: Sequence[str]


def too_many_refused(rows_in: int, reasons: Mapping[str, int], dataset: DatasetSpec) -> bool:
    """Whether more than audit.max_refused_share of the day's rows were refused, those of forgotten users aside."""
    forgotten = reasons.get(FORGOTTEN, 0)
    return sum(reasons.values()) - forgotten > dataset.audit.max_refused_share * (rows_in - forgotten)


def collect_refused(classified: DataFrame, rows_in: int, reasons: Mapping[str, int]) -> Refused:
    """Look at the refused rows of a classified day: the most frequent reason gives the examples."""
    refused = classified.where(F.col(canonical.REASON).isNotNull())
    groups = refused.groupBy(F.col(canonical.REASON).alias("reason"), F.col(canonical.DETAIL).alias("detail")).agg(
        F.count(F.lit(1)).alias("rows")
    )
    nth = F.row_number().over(Window.partitionBy("reason").orderBy(F.desc("rows"), "detail"))
    top = groups.withColumn("nth", nth).where(F.col("nth") <= _DETAILS).orderBy("reason", "nth").collect()
    details: dict[str, list[tuple[str, int]]] = {}
    for row in top:
        details.setdefault(row["reason"], []).append((row["detail"] or "", row["rows"]))
    most = max(reasons, key=lambda reason: reasons[reason])
    records = refused.where(F.col(canonical.REASON) == most).select(canonical.RAW_RECORD)
    examples = [row[0] for row in records.orderBy(canonical.RAW_RECORD).limit(_EXAMPLES).collect()]
    return Refused(rows_in=rows_in, reasons=reasons, details=details, examples=examples)


def describe_refused(refused: Refused, dataset: DatasetSpec) -> str:
    """Counts per reason, likely causes, remedies and examples, on one line."""
    reasons = sorted(refused.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    rows = sum(refused.reasons.values())
    counted = ", ".join(f"{reason} {n}" for reason, n in reasons)
    causes = [f"{reason}: {_cause(reason, refused.details.get(reason, ()), dataset)}" for reason, _ in reasons]
    examples = " ; ".join(_shortened(example) for example in refused.examples)
    return (
        f"{rows} of {refused.rows_in} rows were refused ({rows / refused.rows_in:.1%}), more than "
        f"audit.max_refused_share {dataset.audit.max_refused_share:.4g}: {counted}. Likely cause: {'; '.join(causes)}. "
        f"Fix that, or raise audit.max_refused_share in the YAML. Examples of {reasons[0][0]}: {examples}"
    )


def _cause(reason: str, details: Sequence[tuple[str, int]], dataset: DatasetSpec) -> str:
    columns = dataset.columns
    values = ", ".join(f"{_shortened(_value(detail), 40)!r} ({rows} rows)" for detail, rows in details)
    time = columns.event_time
    match reason:
        case "time_outside_day":
            return (
                f"the files' days are those of another time zone (days.time_zone), or {time.column} is "
                f"(columns.event_time.time_zone {time.time_zone}); found {values}"
            )
        case "bad_time":
            return f"columns.event_time.format {time.format!r} does not fit {values}"
        case "unknown_scenario":
            return _unknown_scenario(values, details, dataset)
        case "bad_number":
            comma = any(_DECIMAL_COMMA.search(detail) for detail, _ in details)
            return ("a decimal comma: write numbers with a point; " if comma else "no numbers: ") + f"found {values}"
        case "bad_weight":
            return f"{columns.weight} must be a finite number >= 0 (columns.weight); found {values}"
        case "bad_label":
            wanted = "0 or 1, or set columns.label.threshold" if columns.label.threshold is None else "a number"
            return f"{columns.label.column} must be {wanted}; found {values}"
        case "duplicate":
            key = ", ".join(columns.natural_key) or f"{columns.user}, {columns.item}, {time.column}"
            return f"({key}) does not identify a row: name the columns that do in columns.natural_key"
        case "null_user" | "null_item":
            name = columns.user if reason == "null_user" else columns.item
            return f"column {name} is empty: is it the right one in columns.{reason.removeprefix('null_')}?"
        case "unreadable_record":
            return "source.format, source.delimiter or source.header do not fit the file"
        case "bad_encoding":
            return "source.encoding does not fit the file"
        case _:
            return f"found {values}"


def _unknown_scenario(values: str, details: Sequence[tuple[str, int]], dataset: DatasetSpec) -> str:
    names = dataset.scenario.names
    known = ", ".join(map(repr, names))
    if dataset.scenario.buckets is not None:
        return f"{dataset.scenario.column} must be a number; found {values}"
    plain = {_plain(name) for name in names}
    spelling = any(_plain(_value(detail).partition(" (scenario.values has ")[0]) in plain for detail, _ in details)
    cause = "case or spelling of the scenarios" if spelling else "scenario.values lacks values of the log"
    return f"{cause}: {dataset.scenario.column} has {values}, scenario.values has {known}"


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def _value(detail: str) -> str:
    """`column=value` without the column."""
    return detail.partition("=")[2] if "=" in detail else detail


def _shortened(text: str, length: int = _LONG) -> str:
    return text if len(text) <= length else f"{text[: length - 4]} ..."
