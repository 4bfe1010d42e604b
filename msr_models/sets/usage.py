"""Which recorded runs use a set, and what sharing gained on their validation days."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from lake.rows import read_rows
from schemas.dataset_spec import DatasetSpec
from schemas.tables.training_runs import TrainingRun


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """Mean scenario AUC on validation of the selected run and of the run with r = 0, of one day and model."""

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


def read_runs(dataset: DatasetSpec, days: Sequence[date] = ()) -> list[TrainingRun]:
    """All runs, or those of `days` where any are given, by day, model and ratio."""
    runs = read_rows(dataset, TrainingRun, days=days or None)
    return sorted(runs, key=lambda run: (run.ds, run.model, run.ratio))


def runs_of(runs: Sequence[TrainingRun], shared_set_id: str) -> list[TrainingRun]:
    """The runs that trained with the set."""
    return [run for run in runs if run.shared_set_id == shared_set_id]


def validation_gains(runs: Sequence[TrainingRun], shared_set_id: str) -> list[Gain]:
    """Of each day and model that used the set; skipped where no selected run or none with r = 0 was recorded."""
    groups: dict[tuple[str, str], list[TrainingRun]] = defaultdict(list)
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


def sets_of_days(runs: Sequence[TrainingRun]) -> dict[date, set[str]]:
    """Trained day -> sets that its runs used; empty for a day trained without a set."""
    used: dict[date, set[str]] = defaultdict(set)
    for run in runs:
        used[date.fromisoformat(run.ds)] |= {run.shared_set_id} if run.shared_set_id else set()
    return dict(used)
