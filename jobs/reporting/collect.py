"""Read all that a report shows, once, as typed rows and small statistics. Needs neither Spark nor torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

from jobs.auditing.profile import warnings_of_day
from jobs.reporting.reliability import Reliability, read_curves, read_reliability
from jobs.reporting.set_statistics import SetStatistics, read_set_statistics
from lake.locations import data_docs_path
from lake.rows import read_rows
from msr_models.evaluation.calibration import Calibration
from msr_models.evaluation.gains import ALL_ROWS, MEAN
from msr_models.evaluation.significance import Contrast, normal_contrast
from msr_models.sets.drift import DayDrift, read_drift
from msr_models.sets.usage import read_runs
from schemas.dataset_spec import DatasetSpec
from schemas.models import FLOOR
from schemas.tables.audits import Audit
from schemas.tables.evaluations import Evaluation
from schemas.tables.further_evaluations import FurtherEvaluation
from schemas.tables.gains import Gain
from schemas.tables.shared_instance_sets import SharedSet
from schemas.tables.training_runs import TrainingRun

IMPRESSIONS = "impressions"
SELECTED, NO_SHARING, SHARE_ALL = "selected", "mt_backbone", "mt_backbone_s"
ARM_NAMES = {SELECTED: "selected ratio", NO_SHARING: "no sharing (r = 0)", SHARE_ALL: "share all (r = 1)"}
ARMS = tuple(ARM_NAMES)


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that one report shows.

    dataset_argument: how commands name the data set, by its name or its YAML's path. audits: of `impressions`.
    findings: expectations of any table that did not hold, and days unlike those before them. data_docs: days with a
    page of Great Expectations' results. drift: days compared with the window of `shared`.
    reliability, calibrations: of each model's selected run on its newest day.
    """

    dataset: DatasetSpec
    dataset_argument: str
    audits: list[Audit]
    findings: list[str]
    data_docs: list[str]
    sets: list[SharedSet]
    shared: SetStatistics | None
    drift: list[DayDrift]
    runs: list[TrainingRun]
    evaluations: list[Evaluation]
    further: list[FurtherEvaluation]
    gains: list[Gain]
    reliability: list[Reliability]
    calibrations: dict[str, Calibration]

    @property
    def scenario_names(self) -> tuple[str, ...]:
        return self.dataset.scenario.names

    @property
    def scenarios_and_totals(self) -> list[tuple[int, str]]:
        """(id, name) of each scenario, then of the mean over scenarios and of all rows together."""
        return [*enumerate(self.scenario_names), (MEAN, "mean of scenarios"), (ALL_ROWS, "all rows")]

    @property
    def models(self) -> list[str]:
        """Evaluated models, in the order of the data set's YAML, others after them; not the floor, unless it is listed
        or alone.
        """
        found = {e.model for e in self.evaluations}
        if FLOOR not in {m.name for m in self.dataset.training.models}:
            found = found - {FLOOR} or found
        listed = [m.name for m in self.dataset.training.models if m.name in found]
        return list(dict.fromkeys([*listed, *sorted(found)]))

    @property
    def has_floor(self) -> bool:
        """Whether any gain over the floor is there."""
        return any(g.baseline == "floor" for g in self.gains)

    def criterion(self, model: str) -> str:
        """What chose the epochs and ratios of a model's newest runs; auc in runs of earlier versions."""
        return next((r.select_on for r in reversed(self.runs) if r.model == model), None) or "auc"

    def untrained(self, model: str, ds: str) -> str:
        """Names of the scenarios that the selected run of a day had no training rows of; empty where there is none."""
        run = next((r for r in self.runs if r.model == model and r.ds == ds and r.is_selected), None)
        return ", ".join(json.loads(run.manifest).get("scenarios_without_rows", [])) if run else ""

    def further_tests(self, model: str, ds: str) -> list[FurtherEvaluation]:
        """Test metrics of the selected run's further labels, by label and scenario, all rows last."""
        found = [e for e in self.further if (e.model, e.ds, e.split) == (model, ds, "test") and e.is_selected]
        order = list(self.dataset.columns.further_labels)
        known = [e for e in found if e.label in order]
        return sorted(known, key=lambda e: (order.index(e.label), e.scenario_id < 0, e.scenario_id))

    def test_days(self, model: str) -> list[str]:
        return sorted({e.ds for e in self.evaluations if e.model == model and e.split == "test"})

    def test(self, model: str, ds: str, arm: str, scenario_id: int) -> Evaluation | None:
        """The test metrics of one arm in one scenario (or ALL_ROWS), None where there are none."""
        return self._tests.get((model, ds, arm, scenario_id))

    @cached_property
    def _tests(self) -> dict[tuple[str, str, str, int], Evaluation]:
        tests = [e for e in self.evaluations if e.split == "test"]
        return {
            (e.model, e.ds, arm, e.scenario_id): e
            for e in tests
            for arm in ARMS
            if (e.is_selected if arm == SELECTED else e.arm == arm)
        }

    def tests_of_day(self, model: str, ds: str) -> list[tuple[str, Evaluation]]:
        """(arm, test metrics) of one day, by scenario and arm, all rows together at the end."""
        ids = (*range(self.dataset.num_scenarios), ALL_ROWS)
        return [(arm, e) for k in ids for arm in ARMS if (e := self.test(model, ds, arm, k)) is not None]

    def selected_tests(self, model: str) -> list[Evaluation]:
        """The selected arm's metrics over all rows, of each test day."""
        return [e for ds in self.test_days(model) if (e := self.test(model, ds, SELECTED, ALL_ROWS)) is not None]

    def auc(self, model: str, ds: str, arm: str, scenario_id: int) -> float | None:
        """Test AUC in a scenario, of ALL_ROWS or their MEAN; None where there is none."""
        found = self.test(model, ds, arm, ALL_ROWS if scenario_id == MEAN else scenario_id)
        if found is None:
            return None
        return found.mean_scenario_auc if scenario_id == MEAN else found.auc

    def logloss(self, model: str, ds: str, arm: str, scenario_id: int) -> float | None:
        """Test logloss in a scenario, of ALL_ROWS or the MEAN over scenarios with rows; None where there is none."""
        ids = range(self.dataset.num_scenarios) if scenario_id == MEAN else [scenario_id]
        values = [e.logloss for k in ids if (e := self.test(model, ds, arm, k)) is not None and e.logloss is not None]
        return sum(values) / len(values) if values else None

    def mean_auc(self, model: str, arm: str, scenario_id: int) -> float | None:
        """Mean of `auc` over the test days that have one."""
        values = [v for ds in self.test_days(model) if (v := self.auc(model, ds, arm, scenario_id)) is not None]
        return sum(values) / len(values) if values else None

    def gain(self, model: str, ds: str, baseline: str, metric: str, scenario_id: int) -> Gain | None:
        """The selected run's gain over a baseline on one test day; None where it is the baseline or there is none."""
        found = self._gains.get((model, ds, baseline, metric, scenario_id))
        return None if found is None or found.run_id == found.baseline_run_id else found

    @cached_property
    def _gains(self) -> dict[tuple[str, str, str, str, int], Gain]:
        return {(g.model, g.ds, g.baseline, g.metric, g.scenario_id): g for g in self.gains}

    def mean_gain(self, model: str, baseline: str, metric: str, scenario_id: int) -> Contrast | None:
        """Mean gain over the test days that have one (0 where the run is the baseline), days taken as independent."""
        of_days = [self._gains.get((model, ds, baseline, metric, scenario_id)) for ds in self.test_days(model)]
        found = [g for g in of_days if g is not None]
        if not found or all(g.run_id == g.baseline_run_id for g in found):
            return None
        variance = sum(g.standard_error**2 for g in found) / len(found) ** 2
        return normal_contrast(sum(g.gain for g in found) / len(found), variance)


def collect(dataset: DatasetSpec, days: Sequence[date], dataset_argument: str | None = None) -> ReportData:
    """Read the tables of a data set: all days, or only `days` where any are given.

    Tables that do not exist yet give empty parts. Raises TableError where a table's columns are not the spec's.
    """
    audits, compared = _read_audits(dataset, days)
    runs = read_runs(dataset, days)
    sets = sorted(read_rows(dataset, SharedSet), key=lambda s: (s.window_end, s.shared_set_id))
    used = next((r.shared_set_id for r in reversed(runs) if r.shared_set_id is not None), None)
    shared = read_set_statistics(dataset, sets, used)
    of_impressions = [audit for audit in audits if audit.table_name == IMPRESSIONS]
    return ReportData(
        dataset=dataset,
        dataset_argument=dataset_argument or dataset.name,
        audits=of_impressions,
        data_docs=[a.ds for a in of_impressions if data_docs_path(dataset, date.fromisoformat(a.ds)).exists()],
        findings=[finding for audit in audits for finding in _findings(audit)] + compared,
        sets=sets,
        shared=shared,
        drift=read_drift(dataset, shared.shared_set.shared_set_id, days) if shared else [],
        runs=runs,
        evaluations=read_rows(dataset, Evaluation, days=days or None),
        further=read_rows(dataset, FurtherEvaluation, days=days or None),
        gains=read_rows(dataset, Gain, days=days or None),
        reliability=[part for run in _newest(runs) for part in read_reliability(dataset, run)],
        calibrations={run.model: found for run in _newest(runs) if (found := read_curves(dataset, run)) is not None},
    )


def _read_audits(dataset: DatasetSpec, days: Sequence[date]) -> tuple[list[Audit], list[str]]:
    """Audits of all days or of `days`, by table and day, and how the days' impressions differ from days before them."""
    before = {d - timedelta(days=n) for d in days for n in range(dataset.audit.compare_days + 1)}
    found = sorted(read_rows(dataset, Audit, days=sorted(before) or None), key=lambda a: (a.table_name, a.ds))
    impressions = [audit for audit in found if audit.table_name == IMPRESSIONS]
    shown = {str(d) for d in days} or {audit.ds for audit in found}
    compared = [
        f"{IMPRESSIONS} {audit.ds}, warning: {line}"
        for audit in impressions
        if audit.ds in shown
        for line in warnings_of_day(impressions, date.fromisoformat(audit.ds), dataset.audit)
    ]
    return [audit for audit in found if audit.ds in shown], compared


def counts(text: str) -> dict[str, int]:
    """The counts that a JSON column of `audits` holds, by name."""
    parsed: dict[str, int] = json.loads(text)
    return dict(sorted(parsed.items()))


def _newest(runs: Sequence[TrainingRun]) -> list[TrainingRun]:
    """The selected run of each model's newest day."""
    newest = {r.model: r.ds for r in runs}  # runs ascend by day
    return [r for r in runs if r.is_selected and r.ds == newest[r.model]]


def _findings(audit: Audit) -> list[str]:
    return [
        f"{audit.table_name} {audit.ds}, {kind}: {finding}"
        for kind, findings in (("failed", audit.failures), ("warning", audit.warnings))
        for finding in json.loads(findings)
    ]
