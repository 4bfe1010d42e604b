"""Runs as training_runs records them, who uses a set, and what sharing won on validation days. Needs no torch."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from lake.reader import read_table, table_exists
from schemas.dataset_spec import DatasetSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A row of training_runs; shared_set_id is None for the arm without shared rows."""

    ds: str
    model: str
    run_id: str
    arm: str
    ratio: float
    is_selected: bool
    shared_set_id: str | None
    validation_auc: float | None
    validation_logloss: float
    epochs: int
    train_rows: int
    train_seconds: float
    created_at: datetime
    predictions_uri: str
    checkpoint_uri: str
    manifest: str = field(repr=False)

    @property
    def code_version(self) -> str:
        """The commit that trained it, as its manifest says."""
        return str(json.loads(self.manifest).get("code_version", "unknown"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """Mean scenario AUC on validation of the arm that was selected and of r = 0, of one day and model."""

    ds: str
    model: str
    ratio: float
    selected_auc: float | None
    baseline_auc: float | None

    @property
    def difference(self) -> float | None:
        """Selected minus r = 0; 0 where r = 0 was selected, None where one has no AUC."""
        if self.selected_auc is None or self.baseline_auc is None:
            return None
        return self.selected_auc - self.baseline_auc


def read_runs(dataset: DatasetSpec, days: Sequence[date] = ()) -> list[Run]:
    """All runs, or those of `days` where any are given, by day, model and ratio; none where nothing was trained."""
    if not table_exists(dataset, "training_runs"):
        return []
    columns = list(Run.__dataclass_fields__)
    rows = read_table(dataset, "training_runs", columns=columns, days=days or None).to_pylist()
    return sorted((Run(**row) for row in rows), key=lambda run: (run.ds, run.model, run.ratio))


def runs_of(runs: Sequence[Run], shared_set_id: str) -> list[Run]:
    """The runs that trained with the set."""
    return [run for run in runs if run.shared_set_id == shared_set_id]


def validation_gains(runs: Sequence[Run], shared_set_id: str) -> list[Gain]:
    """Of each day and model that used the set; left out where no arm or no r = 0 was recorded."""
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.ds, run.model].append(run)
    gains = []
    for (ds, model), group in groups.items():
        selected = next((run for run in group if run.is_selected), None)
        baseline = next((run for run in group if run.ratio == 0), None)
        if selected and baseline and runs_of(group, shared_set_id):
            gains.append(
                Gain(
                    ds=ds,
                    model=model,
                    ratio=selected.ratio,
                    selected_auc=selected.validation_auc,
                    baseline_auc=baseline.validation_auc,
                )
            )
    return gains


def sets_of_days(runs: Sequence[Run]) -> dict[date, set[str]]:
    """Trained day -> sets that its runs used; empty for a day that was trained without one."""
    used: dict[date, set[str]] = defaultdict(set)
    for run in runs:
        used[date.fromisoformat(run.ds)] |= {run.shared_set_id} if run.shared_set_id else set()
    return dict(used)
