"""Show what can be made of a data set on which day, before anything runs: windows, first days, and what is there.

It reads the YAML, the names of the log's files where they can be listed, and the lake's table logs; it writes nothing.
A log that is too short to train on is named, with the days that are missing. --to DAY plans for a log that ends there.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta

from pydantic import Field

from jobs.cli import DatasetOptions, Day, StepArgs, run_step
from lake.reader import published_days
from lake.rows import read_rows
from lake.source_days import source_days
from schemas.commands import command, day_options
from schemas.dataset_spec import DatasetSpec
from schemas.first_days import first_search_day, first_training_day, what_is_missing
from schemas.tables.audits import Audit

GROUP = "operators"
TABLES = ("impressions", "scenario_features", "training_runs")
_DAY = timedelta(days=1)
STEPS_FOR_FEATURES = ("build_vocabularies", "build_behaviour_sequences", "build_scenario_features")


class PlanOptions(DatasetOptions):
    """Options of this command."""

    last: Day | None = Field(
        default=None, validation_alias="to", title="DAY", description="plan for a log that ends with this day"
    )


def plan_lines(dataset: DatasetSpec, to: date | None = None) -> list[str]:
    """The plan, line by line."""
    log_days = source_days(dataset)
    made = {table: published_days(dataset, table) for table in TABLES}
    end = _end_of_log(dataset, {*(log_days or ()), *made["impressions"]}, to)
    lines = [f"{dataset.name}: days {dataset.days.start} .. {dataset.days.end or 'open'}", *_log(dataset, log_days)]
    lines += [f"{table}: {_spans(days) or 'none yet'}" for table, days in made.items()]
    lines += [*_failed(dataset), *_first_days(dataset)]
    if end is None:
        return [*lines, "where the log ends is not known before a day is ingested; --to DAY plans for an end"]
    missing = what_is_missing(dataset, end)
    return [*lines, missing or _outlook(dataset, end), *_commands(dataset, end)]


def _end_of_log(dataset: DatasetSpec, known: Collection[date], to: date | None) -> date | None:
    """`to`, the last day that is there, or the last that the YAML allows; never after the latter."""
    end, last = to or max(known, default=None), dataset.days.end
    return min(end, last) if end and last else end or last


def _failed(dataset: DatasetSpec) -> list[str]:
    audits = read_rows(dataset, Audit, filters={"table_name": "impressions"})
    days = [date.fromisoformat(audit.ds) for audit in audits if audit.status == "failed"]
    look = command("quarantine", dataset, "--ds DAY")
    return (
        [f"impressions: WARNING the audit stopped {_spans(days)}: '{look}' shows why rows were refused"] if days else []
    )


def _log(dataset: DatasetSpec, found: set[date] | None) -> list[str]:
    if found is None:
        return ["log: its days cannot be listed from here (one source for all days, or a remote one)"]
    if not found:
        return [f"log: no files yet at {dataset.source.path}"]
    outside = sorted(d for d in found if d < dataset.days.start or (dataset.days.end and d > dataset.days.end))
    gaps = [d for d in _range(min(found), max(found)) if d not in found]
    lines = [f"log: {len(found)} days, {_spans(found)}"]
    lines += [f"log: WARNING no files for {_spans(gaps)}"] if gaps else []
    lines += [f"log: WARNING {_spans(outside)} outside days.start .. days.end are not used"] if outside else []
    return lines


def _first_days(dataset: DatasetSpec) -> list[str]:
    training, search, feature = dataset.training, dataset.search, dataset.first_feature_day
    first = first_training_day(dataset)
    split = first - timedelta(days=training.validation_days)
    trains, validates = _spans(_range(feature, split - _DAY)), _spans(_range(split, first - _DAY))
    return [
        f"first feature day:  {feature} = days.start + vocabulary.fit_days {dataset.vocabulary.fit_days}",
        f"first search day:   {first_search_day(dataset)}, then every {search.every_days} days (search.every_days) and "
        f"where a day drifted; a search reads the {search.window_days} days before it (search.window_days)",
        f"first training day: {first} = first feature day + training.window_days {training.window_days}; it trains on "
        f"{trains}, validates on {validates} (training.validation_days {training.validation_days}) and tests on "
        f"{first} itself",
    ]


def _outlook(dataset: DatasetSpec, end: date) -> str:
    days = (end - first_training_day(dataset)).days + 1
    searches = max((end - first_search_day(dataset)).days // dataset.search.every_days + 1, 0)
    return f"a log that ends {end}: training days: {days}, scheduled searches: {searches}"


def _commands(dataset: DatasetSpec, end: date) -> list[str]:
    """The first load of what the log suffices for."""
    if end < dataset.days.start:
        return []
    todo = [("ingest_impressions", _range(dataset.days.start, end))]
    features = _range(dataset.first_feature_day, end)
    todo += [(step, features) for step in STEPS_FOR_FEATURES]
    if (first := first_search_day(dataset)) <= end:
        todo.append(("search_shared_instances", _range(first, end)))
        todo.append(("score_shared_instances", _range(first, end)))
    if (first := first_training_day(dataset)) <= end:
        todo += [(step, _range(first, end)) for step in ("train_target_model", "evaluate")]
    extra = {"search_shared_instances": ["--window", "scheduled"]}
    lines = [command(step, dataset, day_options(days), *extra.get(step, [])) for step, days in todo if days]
    return ["first load:", *(f"  {line}" for line in lines)]


def _range(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _spans(days: Collection[date]) -> str:
    """`2026-03-01 .. 2026-03-04, 2026-03-06`: runs of consecutive days."""
    starts = sorted(d for d in days if d - _DAY not in days)
    ends = sorted(d for d in days if d + _DAY not in days)
    return ", ".join(f"{a}" if a == b else f"{a} .. {b}" for a, b in zip(starts, ends, strict=True))


def step(args: StepArgs[PlanOptions]) -> None:
    """Print the plan."""
    print("\n".join(plan_lines(args.dataset, args.options.last)), flush=True)


if __name__ == "__main__":
    run_step(__doc__, step, PlanOptions, needs_days=False)
