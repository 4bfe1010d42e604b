"""An own log for tests: one YAML, any files, no code."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import yaml

from schemas.dataset_spec import DatasetSpec
from schemas.load_dataset import load_dataset

DAY = "2026-03-02"
DS = date.fromisoformat(DAY)
HEADER = "at,who,what,where,liked,paid,kind,tags"
GOOD = f"{DAY}T10:00:00,ann,book,web,1,2.5,paper,a|b"


def spec(**changes: Any) -> dict[str, Any]:
    """The YAML of the log as a dict, top-level keys replaced by `changes`."""
    return {
        "name": "own",
        "source": {"adapter": "files", "format": "csv", "path": "log/{ds}.csv"},
        "columns": {
            "event_time": {"column": "at"},
            "user": "who",
            "item": "what",
            "label": {"column": "liked"},
            "value": "paid",
        },
        "scenario": {"column": "where", "values": ["web", "app", "mail"]},
        "fields": [
            {"name": "user", "source": "who"},
            {"name": "item", "source": "what"},
            {"name": "kind", "source": "kind"},
            {"name": "paid", "source": "paid", "kind": "numeric", "binning": {"edges": [1, 10]}},
            {"name": "tags", "source": "tags", "kind": "multi_valued", "separator": "|", "max_values": 3},
        ],
        "days": {"start": "2026-03-01", "end": "2026-03-31"},
        "audit": {"max_refused_share": 1.0},  # tests refuse most of a few rows
    } | changes


def source(format: str, path: str, **more: Any) -> dict[str, Any]:
    """The `source` block of files of a format."""
    return {"adapter": "files", "format": format, "path": path, **more}


def own_dataset(folder: Path, **changes: Any) -> DatasetSpec:
    """Write the YAML into `folder` and load it; relative source paths count from there."""
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(spec(**changes)), encoding="utf-8")
    (folder / "log").mkdir(exist_ok=True)
    return load_dataset(str(path))


def write_csv(folder: Path, lines: list[str], name: str = f"{DAY}.csv", header: str = HEADER) -> Path:
    """Write a CSV file of the log."""
    path = folder / "log" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return path
