"""A user's traces in files that are no tables: predictions, states of trainings, texts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.forgetting.user_rows import REPLACEMENT, UserRows
from lake.files import write_text
from lake.locations import artifacts_dir, lake_root, report_dir
from msr_models.training.predictions import read_predictions, write_predictions
from schemas.dataset_spec import DatasetSpec
from schemas.tables import table_names

TEXTS = {".html", ".json", ".log", ".txt", ".csv", ".md"}


def predictions_with(user: UserRows) -> list[tuple[Path, int]]:
    """Files of predictions that have rows of the user, with their number."""
    found = []
    for path in sorted(artifacts_dir(user.dataset).rglob("*.parquet")):
        if "user_key" in pq.read_schema(path).names:
            keys = pq.read_table(path, columns=["user_key"])["user_key"]
            rows = pc.sum(pc.equal(keys, user.key)).as_py() or 0
            found += [(path, rows)] if rows else []
    return found


def erase_predictions(user: UserRows) -> None:
    """Drop the user's rows from all predictions."""
    for path, _ in predictions_with(user):
        rows: pa.Table = read_predictions(path)
        write_predictions(path, [rows.filter(pc.not_equal(rows["user_key"], user.key))])


def remove_states(dataset: DatasetSpec) -> None:
    """Remove states to resume from: they only save time, and may know the rows that they were trained on."""
    shutil.rmtree(artifacts_dir(dataset) / "resume", ignore_errors=True)


def texts_with(user: UserRows) -> list[Path]:
    """Text files beside the tables and of the report in which the id is a word. Files of runs and sets hold no ids."""
    pattern = re.compile(user.pattern)
    return [path for path in _texts(user.dataset) if pattern.search(path.read_text(encoding="utf-8", errors="replace"))]


def erase_texts(user: UserRows) -> None:
    """Replace the id in those files."""
    for path in texts_with(user):
        text = path.read_text(encoding="utf-8", errors="replace")
        write_text(path, re.sub(user.pattern, REPLACEMENT, text))


def _texts(dataset: DatasetSpec) -> Iterator[Path]:
    folder, artifacts = Path(lake_root()) / dataset.name, artifacts_dir(dataset)
    roots = [
        path for path in folder.glob("*") if path.is_dir() and path.name not in table_names() and path != artifacts
    ]
    roots += [report_dir()] if report_dir().is_dir() else []
    roots += [path for path in artifacts.glob("*") if path.name not in ("runs", "selectors", "resume")]
    for root in roots:
        for path in [root, *sorted(root.rglob("*"))]:
            if path.is_file() and path.suffix in TEXTS:
                yield path
