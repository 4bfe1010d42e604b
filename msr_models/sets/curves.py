"""Learning curves of a search, from the JSON beside the set's selector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def curves_file(selector: Path) -> Path:
    """The JSON beside a selector's file: curves of the search, share rates, reason of a rejection."""
    return selector.with_suffix(".json")


def last_epochs(path: Path) -> dict[str, dict[str, Any]]:
    """Phase -> its last record; empty where the file is missing or holds no curves."""
    try:
        curves = json.loads(path.read_text(encoding="utf-8"))["curves"]
        return {record["phase"]: {k: v for k, v in record.items() if k != "phase"} for record in curves}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
