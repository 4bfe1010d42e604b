"""Storage locations: one lake root, one folder per data set in it, one Delta table per folder."""

from __future__ import annotations

import os
import re
from datetime import date
from pathlib import Path

from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError

# delta-rs takes %20 for a blank and \\ for /, and refuses brackets; Spark's SQL names a table in backquotes
_UNUSABLE = re.compile(r"%[0-9A-Fa-f]{2}|[\[\]`\\]")


def lake_root() -> str:
    """MSR_LAKE_ROOT as an absolute path or a URI; default `./data/lake`.

    Raises TableError where it is a file, or a path that one of the engines would take for another one.
    """
    root = os.environ.get("MSR_LAKE_ROOT") or "data/lake"
    if "://" in root:
        return root.rstrip("/")
    path = Path(root).absolute()
    if path.exists() and not path.is_dir():
        raise TableError(f"MSR_LAKE_ROOT: {root!r} is not a folder; give a folder or a URI")
    if found := _UNUSABLE.search(str(path)):
        raise TableError(f"MSR_LAKE_ROOT: Delta cannot use a path with {found.group()!r}: {str(path)!r}; rename it")
    return str(path)


def table_uri(dataset: DatasetSpec, table: str) -> str:
    """`<root>/<dataset>/<table>`."""
    return f"{lake_root()}/{dataset.name}/{table}"


def artifacts_dir(dataset: DatasetSpec) -> Path:
    """Folder of checkpoints, selectors and predictions: MSR_ARTIFACTS_DIR/<dataset>, or `_artifacts` beside the tables.

    Raises TableError where the lake is remote and MSR_ARTIFACTS_DIR is not set: torch writes files.
    """
    if own := os.environ.get("MSR_ARTIFACTS_DIR"):
        return Path(own).absolute() / dataset.name
    if "://" in lake_root():
        raise TableError(f"the lake {lake_root()} is remote: set MSR_ARTIFACTS_DIR to a folder that all trainers share")
    return Path(lake_root()) / dataset.name / "_artifacts"


def artifact_uri(dataset: DatasetSpec, path: Path) -> str:
    """An artifact's path below artifacts_dir, as tables store it, so that a lake can be moved."""
    return path.relative_to(artifacts_dir(dataset)).as_posix()


def artifact_path(dataset: DatasetSpec, uri: str) -> Path:
    """The path of an artifact that a table's row names."""
    return artifacts_dir(dataset) / uri


def report_dir() -> Path:
    """MSR_REPORT_DIR; default `./report`."""
    return Path(os.environ.get("MSR_REPORT_DIR") or "report").absolute()


def data_docs_path(dataset: DatasetSpec, ds: date) -> Path:
    """The page of Great Expectations' results of a day, beside the data set's report."""
    return report_dir() / dataset.name / "data_docs" / f"{ds}.html"
