"""A small own log of a few days whose YAML changes while its lake lives."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import yaml

from jobs import build_scenario_features, ingest_impressions
from schemas.dataset_spec import DatasetSpec
from schemas.load_dataset import load_dataset
from tests.support.steps import run_step

START = date(2026, 3, 1)
DAYS = [START + timedelta(days=n) for n in range(4)]
HEADER = "at,who,what,where,liked,paid,kind,tags,device,rid"
ROWS = 60

YAML: dict[str, Any] = {
    "name": "changing",
    "source": {"adapter": "files", "format": "csv", "path": "log/{ds}.csv"},
    "columns": {
        "event_time": {"column": "at"},
        "user": "who",
        "item": "what",
        "label": {"column": "liked", "threshold": 3},
        "value": "paid",
    },
    "scenario": {"column": "where", "values": ["home", "cart"]},
    "fields": [
        {"name": "user", "source": "who"},
        {"name": "item", "source": "what"},
        {"name": "kind", "source": "kind"},
        {"name": "paid", "source": "paid", "kind": "numeric", "binning": {"quantiles": 4}},
        {"name": "tags", "source": "tags", "kind": "multi_valued", "separator": "|", "max_values": 3},
    ],
    "sequence": {"max_length": 5, "lookback_days": 2, "attributes": ["kind"]},
    "statistics": {"of": ["user", "item"], "lookback_days": 2},
    "vocabulary": {"fit_days": 1, "refresh_days": 1},
    "days": {"start": str(START), "end": "2026-03-20"},
    "audit": {"max_refused_share": 0.9},
    "search": {"window_days": 2},
    "training": {"window_days": 2, "start": "previous_day", "max_epochs": 1, "batch_size": 32},
}


def write_log(folder: Path, days: Sequence[date] = DAYS) -> None:
    """Files of `days`, a function of the day alone. Every tenth row is of the scenario `ads`."""
    (folder / "log").mkdir(exist_ok=True)
    for ds in days:
        (folder / "log" / f"{ds}.csv").write_text("\n".join([HEADER, *rows_of(ds), ""]), encoding="utf-8")


def rows_of(ds: date) -> list[str]:
    """CSV lines of a day."""
    rng = random.Random(ds.toordinal())
    lines = []
    for n in range(ROWS):
        where = "ads" if n % 10 == 9 else rng.choice(["home", "cart", "home"])
        at = f"{ds}T{n % 24:02d}:{n % 60:02d}:00"
        tags = "|".join(rng.sample(["a", "b", "c", "d"], rng.randint(0, 3)))
        fixed = f"{at},u{rng.randint(1, 9)},i{rng.randint(1, 12)},{where},{rng.randint(1, 5)},{rng.randint(1, 90)}"
        lines.append(f"{fixed},{rng.choice(['paper', 'film'])},{tags},{rng.choice(['ios', 'web'])},r{n}")
    return lines


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The YAML after a change."""
    raw = copy.deepcopy(YAML)
    change(raw)
    return raw


def load(folder: Path, raw: dict[str, Any] | None = None) -> DatasetSpec:
    """Write the YAML beside the log and load it."""
    path = folder / "changing.yaml"
    path.write_text(yaml.safe_dump(raw or YAML, sort_keys=False), encoding="utf-8")
    return load_dataset(str(path))


def build(dataset: DatasetSpec, days: Sequence[date] = DAYS) -> None:
    """Impressions of `days` and features of all but the first, with what they need."""
    run_step(ingest_impressions, dataset, *days)
    run_step(build_scenario_features, dataset, *days[1:])
