"""Which days a day trains on and, with training.start: previous_day, which recorded run it starts from.

The predecessor of a day is the newest trainable day before it; the first trainable day of a data set starts from
scratch. A predecessor must have been trained with today's settings, so that a day's weights are a function of the day
and not of the order in which days were trained. The machine and the code that trained it do not matter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from msr_models.data.reader import published_empty
from msr_models.training.manifest import Predecessor, RunManifest
from msr_models.training.recorded_runs import RecordedRun, recorded_runs
from schemas.commands import command, day_options
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.pipeline_spec import ModelChoice, Start
from schemas.provenance import appends

# What a predecessor must have in common with the run that starts from it, beside its days.
_SAME = ("dataset", "lineage", "scenarios", "model", "options", "rank_scope", "trainer")


@dataclass(frozen=True, kw_only=True, slots=True)
class DayPlan:
    """predecessor: the day whose run to start from, None for fresh weights. train_days: without those of its run."""

    ds: date
    train_days: list[date]
    validation_days: list[date]
    predecessor: date | None

    @property
    def start(self) -> Start:
        return "scratch" if self.predecessor is None else "previous_day"


def split_days(dataset: DatasetSpec, ds: date) -> tuple[list[date], list[date]] | None:
    """(training days, validation days) before `ds`; None where not all days of the window can have features."""
    days = dataset.window_before(ds, dataset.training.window_days)
    if days is None:
        return None
    held_out = dataset.training.validation_days
    return days[:-held_out], days[-held_out:]


def plan_day(dataset: DatasetSpec, ds: date) -> DayPlan | None:
    """What `ds` trains on and starts from; None where its window is not full."""
    split = split_days(dataset, ds)
    if split is None:
        return None
    train_days, validation_days = split
    before = previous_trainable_day(dataset, ds) if dataset.training.start == "previous_day" else None
    if before is not None:
        trained, _ = split_days(dataset, before) or ([], [])
        train_days = [d for d in train_days if d not in trained]
    return DayPlan(ds=ds, train_days=train_days, validation_days=validation_days, predecessor=before)


def previous_trainable_day(dataset: DatasetSpec, ds: date) -> date | None:
    """The newest day before `ds` with rows to train, validate and test on; None where there is none."""
    day = ds - timedelta(days=1)
    while split_days(dataset, day) is not None:
        if _is_trainable(dataset, day):
            return day
        day -= timedelta(days=1)
    return None


def first_trainable_day(dataset: DatasetSpec, ds: date) -> date:
    """The first day with rows to train, validate and test on; `ds` where no day before it has them."""
    day = dataset.first_feature_day + timedelta(days=dataset.training.window_days)
    while day < ds and not _is_trainable(dataset, day):
        day += timedelta(days=1)
    return min(day, ds)


def _is_trainable(dataset: DatasetSpec, ds: date) -> bool:
    parts = split_days(dataset, ds)
    if parts is None or published_empty(dataset, ds):
        return False
    return not any(all(published_empty(dataset, d) for d in part) for part in parts)


def days_to_make_first(
    dataset: DatasetSpec, plan: DayPlan, choices: Sequence[ModelChoice]
) -> list[tuple[date, list[ModelChoice]]]:
    """Earlier days in the chain of `plan` and the models whose runs or files they lack, the oldest day first."""
    missing: dict[date, list[ModelChoice]] = {}
    for choice in choices:
        day = plan.predecessor
        while day is not None and not _is_made(dataset, day, choice.name):
            missing.setdefault(day, []).append(choice)
            day = previous_trainable_day(dataset, day)
    return sorted(missing.items())


def _is_made(dataset: DatasetSpec, ds: date, model: str) -> bool:
    runs = recorded_runs(dataset, ds, model)
    return bool(runs) and all(run.has_files() for run in runs)


def find_predecessor(dataset: DatasetSpec, day: date, planned: RunManifest) -> Predecessor:
    """The run of `day` that `planned` starts from: the one of its ratio, or r = 0 where `day` had no shared set.

    Raises TrainingError, naming both sides, where there is none or it was made with other settings.
    """
    runs = recorded_runs(dataset, day, planned.model)
    found = [run for run in runs if run.manifest.ratio == planned.ratio]
    if not found and not any(run.manifest.ratio > 0 for run in runs):
        found = runs
    if not found:
        trained = ", ".join(f"{run.manifest.ratio:g}" for run in runs)
        raise TrainingError(
            f"{planned.model} r={planned.ratio:g} of {planned.ds} starts from the same of {day}, which has runs of r = "
            f"{trained or 'none'} only; put the ratio into training.ratios and {_again(dataset, planned)}"
        )
    _require_same_settings(dataset, day, found[0], planned)
    return Predecessor(
        ds=str(day),
        run_id=found[0].manifest.run_id,
        ratio=found[0].manifest.ratio,
        checkpoint_sha256=found[0].row.checkpoint_sha256,
        chain_start=_chain_start(found[0].manifest),
        new_scenario_start=_new_scenario_start(dataset, found[0].manifest),
    )


def _new_scenario_start(dataset: DatasetSpec, before: RunManifest) -> str | None:
    """The YAML's, where scenarios were appended since. Raises TrainingError where it is itself one of those."""
    start = dataset.training.new_scenario_start
    if start is None or len(before.scenarios) == dataset.num_scenarios:
        return None
    if start not in before.scenarios:
        raise TrainingError(
            f"training.new_scenario_start {start!r} is new itself: run {before.run_id} knows {before.scenarios}; name "
            "one of these"
        )
    return start


def _require_same_settings(dataset: DatasetSpec, day: date, run: RecordedRun, planned: RunManifest) -> None:
    plan = plan_day(dataset, day)
    assert plan is not None, "a trainable day has a plan"
    wanted: dict[str, Any] = {name: getattr(planned, name) for name in _SAME} | {
        "start": plan.start,
        "train_days": [str(d) for d in plan.train_days],
        "validation_days": [str(d) for d in plan.validation_days],
        "chain_start": str(first_trainable_day(dataset, day)),
    }
    made = {name: getattr(run.manifest, name) for name in wanted if name != "chain_start"}
    known = dataset.encoded_fields_on(plan.validation_days[-1])  # others came in since
    wanted["fields"] = {f"{f.name}.embedding_dim": f.embedding_dim for f in known if f.embedding_dim is not None}
    made["fields"] = {f"{name}.embedding_dim": dim for name, dim in run.manifest.embedding_dims.items()}
    if appends(tuple(made["scenarios"]), tuple(planned.scenarios)):  # new ones start from those that are there
        wanted["scenarios"] = made["scenarios"]
    made["chain_start"] = _chain_start(run.manifest)
    there, here = _flat(made), _flat(wanted)
    for name in here | there:
        if there.get(name) != here.get(name):
            raise TrainingError(
                f"{planned.ds} starts from run {run.manifest.run_id}, which was made with {name} "
                f"{there.get(name, 'not set')}, not {here.get(name, 'not set')}; {_again(dataset, planned)}"
            )


def _chain_start(manifest: RunManifest) -> str:
    return manifest.predecessor.chain_start if manifest.predecessor else manifest.ds


def _again(dataset: DatasetSpec, planned: RunManifest) -> str:
    """The remedy: all days since the first trainable one, in order."""
    first = first_trainable_day(dataset, date.fromisoformat(planned.ds))
    days = [first, date.fromisoformat(planned.ds)]
    again = command("train_target_model", dataset, f"--model {planned.model}", day_options(days))
    return f"train the days again in order: {again}, or set training.start: scratch"


def _flat(settings: Mapping[str, Any]) -> dict[str, str]:
    """Name -> JSON; entries of mappings each under their own name (trainer.seed)."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        parts = {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {name: value}
        flat |= {n: json.dumps(v, sort_keys=True) for n, v in parts.items()}
    return flat
