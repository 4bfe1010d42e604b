"""What adapters share: the columns every raw log must have, and errors that name the place."""

from __future__ import annotations

import re
from datetime import date

from pyspark.sql import DataFrame

from jobs.transforms.canonical import ADAPTER_COLUMNS, required_columns
from schemas.dataset_spec import DatasetSpec
from schemas.errors import DatasetSpecError, MsrError, SourceError

_CONDITION = re.compile(r"\[[A-Z_]+(\.[A-Z_]+)*\] .*")
UNREADABLE = "unreadable_record"


def source_path(dataset: DatasetSpec, ds: date) -> str:
    """The source's path with the day put in."""
    return (dataset.source.path or "").replace("{ds}", str(ds))


def check_columns(raw: DataFrame, dataset: DatasetSpec) -> None:
    """Raise SourceError where the log lacks a column that the data set's YAML names."""
    actual = [name for name in raw.columns if name not in ADAPTER_COLUMNS]
    missing = [name for name in required_columns(dataset) if name not in actual]
    if missing:
        found = f"it has {actual}" if actual else "it is empty"
        raise SourceError(
            f"the log of {dataset.name} at {dataset.source.path} lacks columns {missing}; {found}; fix the file or "
            "the column names in the data set's YAML"
        )


def check_reserved(columns: list[str], path: str) -> None:
    """Raise SourceError where the log has a column with a name that the adapters use."""
    if taken := [name for name in columns if name in ADAPTER_COLUMNS]:
        raise SourceError(
            f"{path}: columns {taken} have names that are reserved for the pipeline; rename them in the log"
        )


def source_error(error: Exception, dataset: DatasetSpec, ds: date) -> MsrError:
    """Spark's error about a source as one line with place and remedy."""
    path = source_path(dataset, ds)
    text = str(error)
    condition = _CONDITION.search(text)  # an engine in this process puts class names first
    first_line = " ".join((condition.group() if condition else text).split("\n")[0].split())
    if "PATH_NOT_FOUND" in text:
        fetch = "fetch it with scripts/get_movielens.py" if dataset.source.adapter == "movielens" else "deliver it"
        return SourceError(
            f"the log of {dataset.name} for {ds} is missing: nothing at {path}; {fetch} or fix source.path"
        )
    if re.search(r"DATETIME_\w*PATTERN", text):
        return DatasetSpecError(
            f"columns.event_time.format: {dataset.columns.event_time.format!r} is not a datetime pattern "
            f"({first_line}); write iso, epoch_s, epoch_ms or a Spark datetime pattern"
        )
    if "UNABLE_TO_INFER_SCHEMA" in text:
        return SourceError(
            f"the log of {dataset.name} for {ds} at {path} holds no rows and no columns; deliver it again"
        )
    return SourceError(
        f"the log of {dataset.name} for {ds} at {path} cannot be read as "
        f"{dataset.source.format or dataset.source.adapter}: {first_line[:300]}; deliver it again or fix source.format"
    )
