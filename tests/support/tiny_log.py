"""A small log for tests of the whole line: days of the generated log as the CSV files of an own log."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import yaml

from jobs.adapters.generated import make_day
from schemas.dataset_spec import DatasetSpec
from schemas.load_dataset import DATASETS_FOLDER

NAME = "tiny"
ROWS = 1200
DAYS = [date(2026, 1, 1) + timedelta(days=n) for n in range(5)]
FEATURE_DAYS = DAYS[1:]
TEST_DAY = DAYS[3]  # trained on the two days before it, with a set searched on them; DAYS[4] is its future


def write_log(folder: Path, changed_from: date | None = None) -> Path:
    """Write the log and its YAML into `folder`; returns the YAML's path.

    From `changed_from` on, the log is another one that gives every label away: a new item `leak-1` or `leak-0` per
    label, and more clicks.
    """
    base = yaml.safe_load((DATASETS_FOLDER / "generated.yaml").read_text(encoding="utf-8"))
    base["source"]["generator"] |= {"rows_per_day": ROWS, "num_users": 150, "num_items": 60, "broken_rows": 0.01}
    generated = DatasetSpec.model_validate(base)
    (folder / "log").mkdir(parents=True)
    for day in DAYS:
        rows = make_day(generated, day)
        rows = rows.select([name for name in rows.column_names if not name.startswith("_")])
        if changed_from is not None and day >= changed_from:
            rows = _giving_labels_away(rows)
        pacsv.write_csv(rows, folder / "log" / f"{day}.csv")
    path = folder / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(_spec(base)), encoding="utf-8")
    return path


def _giving_labels_away(rows: pa.Table) -> pa.Table:
    clicks = pa.array([n % 2 for n in range(rows.num_rows)])
    items = pa.array([f"leak-{n % 2}" for n in range(rows.num_rows)])
    rows = rows.set_column(rows.column_names.index("click"), "click", clicks)
    return rows.set_column(rows.column_names.index("item"), "item", items)


def _spec(base: dict[str, Any]) -> dict[str, Any]:
    small = {"hidden": [16], "embedding_dim": 4}
    return base | {
        "name": NAME,
        "source": {"adapter": "files", "format": "csv", "path": "log/{ds}.csv"},
        "days": {"start": DAYS[0], "end": DAYS[-1]},
        "vocabulary": {"fit_days": 1, "refresh_days": 1},
        "search": {"window_days": 2, "warmup_epochs": 1, "epochs": 1, "selector_hidden": [16], **small},
        "training": {
            "window_days": 2,
            "max_epochs": 1,
            "ratios": [0.0, 0.3, 1.0],
            "models": [{"name": "shared_bottom", "options": small}],
        },
    }
