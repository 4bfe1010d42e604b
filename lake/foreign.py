"""Tables that another engine changed in a way that Arrow cannot read or write: named in one line with what helps.

Deletion vectors would give wrong counts and renamed columns would read as null, so such tables are not opened at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.table import SUPPORTED_READER_FEATURES

from schemas.errors import TableError

_UNSUPPORTED_WRITE = re.compile(r"Unsupported table features required: \[(?P<names>[^\]]*)\]")
_UNSUPPORTED_READ = re.compile(r"Feature '(?P<names>\w+)' is not supported|read feature[^\[]*: \[?(?P<spark>[\w, -]+)")
_MAPPING = "columnMapping"
# What Delta leaves behind when a feature is dropped: it goes with the versions that had the feature
_PROTECTION = "checkpointProtection"


def require_readable(table: DeltaTable, uri: str) -> None:
    """Raise TableError where the table's version uses features that would be read wrongly."""
    features = set(table.protocol().reader_features or ()) - SUPPORTED_READER_FEATURES
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        features.add(_MAPPING)
    if features:
        raise unreadable(uri, sorted(features))


def unreadable(uri: str, features: Sequence[str]) -> TableError:
    """The error of a table that uses `features`, which another engine switched on."""
    return TableError(
        f"{uri}: another engine switched on {', '.join(features)}, which this pipeline cannot read; run "
        f"{' and '.join(f'`{_drop(uri, name)}`' for name in features)} in Spark, or rebuild the table"
    )


def unreadable_features(error: BaseException) -> list[str]:
    """The features that an engine's error names as unknown to it; none where it is another error."""
    found = _UNSUPPORTED_READ.search(str(error))
    return re.findall(r"[\w-]+", found["names"] or found["spark"] or "") if found else []


@contextmanager
def naming_unwritable_features(uri: str) -> Iterator[None]:
    """Turn deltalake's refusal to write a table with features that it lacks into a TableError with the remedy."""
    try:
        yield
    except DeltaError as error:
        if not (found := _UNSUPPORTED_WRITE.search(str(error))):
            raise
        names = [name[0].lower() + name[1:] for name in re.findall(r"\w+", found["names"]) if name != "Unknown"]
        raise TableError(
            f"{uri}: another engine switched on {', '.join(names)}, with which this step cannot write; run "
            f"{' and '.join(f'`{_drop(uri, name)}`' for name in names)} in Spark, or rebuild the table"
        ) from error


def is_unwritable(error: BaseException) -> bool:
    """Whether another attempt to write is useless, because the table has features that deltalake lacks."""
    return _UNSUPPORTED_WRITE.search(str(error)) is not None


def _drop(uri: str, feature: str) -> str:
    history = " TRUNCATE HISTORY" if feature == _PROTECTION else ""
    return f"ALTER TABLE delta.`{uri}` DROP FEATURE {feature}{history}"
