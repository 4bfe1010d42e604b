"""Read what a report shows from the tables, once: small typed values, no frames. Needs neither Spark nor torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from jobs.reporting.reliability import Reliability, read_reliability
from jobs.reporting.shared_set import SetSummary, SharedSet, read_sets, read_shared_set
from lake.locations import artifact_path
from lake.reader import read_table, table_exists
from msr_models.sets.drift import DayDrift, read_drift
from msr_models.sets.usage import Run, read_runs
from schemas.dataset_spec import DatasetSpec

ALL_ROWS, MEAN = -1, -2  # beside the scenarios: all rows together, the mean over scenarios
SELECTED, NO_SHARING, SHARE_ALL = "selected", "mt_backbone", "mt_backbone_s"
ARM_NAMES = {SELECTED: "selected ratio", NO_SHARING: "no sharing (r = 0)", SHARE_ALL: "share all (r = 1)"}


@dataclass(frozen=True, kw_only=True)
class DayAccount:
    """One day of `impressions`: rows in = published + quarantined."""

    ds: str
    status: str
    rows_in: int
    rows_published: int
    rows_quarantined: int
    per_scenario: dict[str, int]
    reasons: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One row of evaluations; AUC is None where the rows have one class."""

    ds: str
    model: str
    run_id: str
    arm: str
    ratio: float
    is_selected: bool
    split: str
    scenario_id: int
    rows: int
    positives: int
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    mean_scenario_auc: float | None
    single_class_scenarios: int
    logloss: float | None
    calibration: float | None
    s_gauc: float | None

    def is_arm(self, arm: str) -> bool:
        """Whether this is a score of the selected ratio, or of one of the two limits."""
        return self.is_selected if arm == SELECTED else self.arm == arm


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that one report shows.

    `argument`: what command lines name the data set by, its name or its YAML's path. `findings`: what audits said.
    `drift`: days that were compared with the window of `shared`.
    """

    dataset: DatasetSpec
    argument: str
    accounts: list[DayAccount]
    findings: list[str]
    sets: list[SetSummary]
    shared: SharedSet | None
    drift: list[DayDrift]
    runs: list[Run]
    scores: list[Score]
    reliability: list[Reliability]

    @property
    def scenario_names(self) -> tuple[str, ...]:
        return self.dataset.scenario.names

    @property
    def scenarios_and_totals(self) -> list[tuple[int, str]]:
        """(id, name) of each scenario, then of the mean over scenarios and of all rows together."""
        return [*enumerate(self.scenario_names), (MEAN, "mean of scenarios"), (ALL_ROWS, "all rows")]

    @property
    def models(self) -> list[str]:
        """Models that have scores, in the order of the data set's YAML, others after them."""
        found = {s.model for s in self.scores}
        listed = [m.name for m in self.dataset.training.models if m.name in found]
        return list(dict.fromkeys([*listed, *sorted(found)]))

    def test_days(self, model: str) -> list[str]:
        return sorted({s.ds for s in self.scores if s.model == model and s.split == "test"})

    def score(self, model: str, ds: str, arm: str, scenario_id: int) -> Score | None:
        """The test score of one arm in one scenario (ALL_ROWS: all rows), None where there is none."""
        return self._test_scores.get((model, ds, arm, scenario_id))

    @cached_property
    def _test_scores(self) -> dict[tuple[str, str, str, int], Score]:
        tests = [s for s in self.scores if s.split == "test"]
        return {(s.model, s.ds, arm, s.scenario_id): s for s in tests for arm in ARM_NAMES if s.is_arm(arm)}

    def auc(self, model: str, ds: str, arm: str, scenario_id: int) -> float | None:
        """Test AUC; MEAN as scenario is the mean over scenarios. None where there is none."""
        score = self.score(model, ds, arm, max(scenario_id, ALL_ROWS))
        if score is None:
            return None
        return score.mean_scenario_auc if scenario_id == MEAN else score.auc

    def mean_auc(self, model: str, arm: str, scenario_id: int) -> float | None:
        """Mean of `auc` over the test days that have one."""
        values = [v for d in self.test_days(model) if (v := self.auc(model, d, arm, scenario_id)) is not None]
        return sum(values) / len(values) if values else None


def collect(dataset: DatasetSpec, days: Sequence[date], argument: str | None = None) -> ReportData:
    """Read the tables of a data set: all days, or only `days` where any are given.

    Tables that do not exist yet give empty parts. Raises TableError where a table's columns are not the spec's.
    """
    audits = sorted(_rows(dataset, "audits", days), key=lambda r: (r["table_name"], r["ds"]))
    runs = read_runs(dataset, days)
    sets = read_sets(dataset)
    used = next((r.shared_set_id for r in reversed(runs) if r.shared_set_id is not None), None)
    shared = read_shared_set(dataset, sets, used)
    return ReportData(
        dataset=dataset,
        argument=argument or dataset.name,
        accounts=[_account(row) for row in audits if row["table_name"] == "impressions"],
        findings=[finding for row in audits for finding in _findings(row)],
        sets=sets,
        shared=shared,
        drift=read_drift(dataset, shared.summary.shared_set_id, days) if shared else [],
        runs=runs,
        scores=[_score(row) for row in _rows(dataset, "evaluations", days)],
        reliability=read_reliability(
            [(r.model, r.ds, arm, artifact_path(dataset, r.predictions_uri)) for r, arm in _newest_arms(runs)]
        ),
    )


def _newest_arms(runs: Sequence[Run]) -> list[tuple[Run, str]]:
    """The selected and the no-sharing run of each model's newest day."""
    newest = {r.model: r.ds for r in runs}  # runs ascend by day
    last = [r for r in runs if r.ds == newest[r.model]]
    selected = [(r, SELECTED) for r in last if r.is_selected]
    return selected + [(r, NO_SHARING) for r in last if r.arm == NO_SHARING]


def _rows(dataset: DatasetSpec, table: str, days: Sequence[date]) -> list[dict[str, Any]]:
    """Rows of a small table as dicts; none where the table does not exist."""
    if not table_exists(dataset, table):
        return []
    rows: list[dict[str, Any]] = read_table(dataset, table, days=days or None).to_pylist()
    return rows


def _account(row: dict[str, Any]) -> DayAccount:
    return DayAccount(
        ds=row["ds"],
        status=row["status"],
        rows_in=row["rows_in"],
        rows_published=row["rows_published"],
        rows_quarantined=row["rows_quarantined"],
        per_scenario=json.loads(row["rows_per_scenario"]),
        reasons=json.loads(row["quarantine_reasons"]),
    )


def _findings(row: dict[str, Any]) -> list[str]:
    """What the expectations of one table's day said, in words."""
    kinds = {"failed": json.loads(row["failures"]), "warning": json.loads(row["warnings"])}
    said = [(kind, w if isinstance(w, str) else json.dumps(w)) for kind, every in kinds.items() for w in every]
    return [f"{row['table_name']} {row['ds']}, {kind}: {words}" for kind, words in said]


def _score(row: dict[str, Any]) -> Score:
    return Score(**{name: row[name] for name in Score.__dataclass_fields__})
