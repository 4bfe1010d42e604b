"""Sets and their comparison as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from statistics import fmean
from typing import Any

from lake.locations import artifact_path
from lake.reader import count_rows, published_days
from msr_models.sets.catalogue import Catalogue, read_catalogue
from msr_models.sets.compare import SetDifference
from msr_models.sets.curves import curves_file, last_epochs
from msr_models.sets.drift import DayDrift, drift_flags, part_name, read_drift
from msr_models.sets.export import readable_row
from msr_models.sets.feature_files import MASKS
from msr_models.sets.pins import pin_spans
from msr_models.sets.usage import read_runs, runs_of, validation_gains
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.tables.training_runs import TrainingRun
from schemas.text import aligned_table

NOTHING = "-"
# Shown in a section of their own
_SECTIONS = ("config", "table_versions", "share_rates", "validation_metrics")


def list_lines(dataset: DatasetSpec) -> list[str]:
    """One line per set, oldest window first."""
    catalogue = read_catalogue(dataset)
    if not catalogue.sets:
        return [
            f"{dataset.name} has no shared sets yet; run: {command('search_shared_instances', dataset, '--ds DAY')}"
        ]
    runs = read_runs(dataset)
    flags = drift_flags(dataset)
    rows = [("id", "window", "backbone", "status", "shared", "runs", "drifted", "pinned")]
    for found in catalogue.sets:
        set_id, window = found.shared_set_id, f"{found.first_day} .. {found.last_day}"
        own_flags = [drifted for (flagged, _), drifted in flags.items() if flagged == set_id]
        drifted = f"{sum(own_flags)} of {len(own_flags)} days" if own_flags else NOTHING
        pins = "; ".join(pin_spans(catalogue.pins, set_id)) or NOTHING
        facts = (found.source_backbone, found.status, _percent(found.share_rate), str(len(runs_of(runs, set_id))))
        rows.append((set_id, window, *facts, drifted, pins))
    return [*aligned_table(rows), *tie_lines(catalogue)]


def tie_lines(catalogue: Catalogue, window_end: date | None = None) -> list[str]:
    """A line for each window end (or this one) that several accepted sets share: which is used, how to change it."""
    lines = []
    for *others, used in catalogue.ties():
        if window_end in (None, used.last_day):
            names, after = ", ".join(s.shared_set_id for s in others), used.last_day + timedelta(days=1)
            pin = command("shared_sets", catalogue.dataset, "pin ID", f"--from {after}")
            lines.append(
                f"windows that end on {used.last_day}: {used.shared_set_id} is used, not {names} (the YAML's settings "
                f"first, then the later start, features and id); to use another: {pin}"
            )
    return lines


def show_lines(dataset: DatasetSpec, shared_set_id: str) -> list[str]:
    """Everything that is recorded of a set. Raises SharedSetError for an unknown id."""
    row = readable_row(dataset, shared_set_id)
    catalogue = read_catalogue(dataset)
    is_own = catalogue.is_compatible(catalogue.named(shared_set_id))
    pins = "; ".join(pin_spans(catalogue.pins, shared_set_id))
    runs = read_runs(dataset)
    facts = {name: value for name, value in row.items() if name not in _SECTIONS} | {"pinned": pins}
    facts |= {"masks": _mask_days(dataset, shared_set_id)}
    rates = {"all": {"all": row["share_rate"]}, **row["share_rates"]}
    return [
        *_facts(facts),
        *_section("share rates of the window, by scenario and label", _rate_lines(rates)),
        *_section("validation of the source backbone", _facts(row["validation_metrics"])),
        *_section("validation gain, mean scenario AUC: selected ratio against r = 0", _gain_lines(runs, shared_set_id)),
        *_section("used by", _run_lines(runs_of(runs, shared_set_id))),
        *_section("days against the window", _drift_lines(dataset, read_drift(dataset, shared_set_id), is_own)),
        *_section("curves of the search", _curve_lines(dataset, row["selector_uri"])),
        *_section("configuration", _facts(row["config"])),
        *_section("table versions", _facts(row["table_versions"])),
    ]


def difference_lines(dataset: DatasetSpec, first: str, second: str, found: SetDifference) -> list[str]:
    """Overlap and rank correlation, over all scenarios and per scenario."""
    common = found.overlaps[0].rows
    catalogue = read_catalogue(dataset)
    foreign = [s for s in catalogue.sets if s.shared_set_id in (first, second) and not catalogue.is_compatible(s)]
    rows = [("scenario", "common rows", "shared first", "shared second", "jaccard", "rank correlation")]
    for part in found.overlaps:
        name = "all" if part.scenario_id < 0 else part_name(dataset, part.scenario_id, is_own=not foreign)
        counts = (f"{part.rows:,}", f"{part.shared_first:,}", f"{part.shared_second:,}")
        rows.append((name, *counts, _number(part.jaccard), _number(part.rank_correlation)))
    return [
        f"first:  {first}",
        f"second: {second}",
        f"instances: {common:,} in both ({len(found.days)} days), {found.only_first:,} only in the first, "
        f"{found.only_second:,} only in the second",
        *(
            f"{s.shared_set_id} is of vocabulary lineage {s.lineage}, not of {dataset.name}'s {dataset.lineage}: "
            "scenarios are numbered as in the first"
            for s in foreign
        ),
        *aligned_table(rows),
    ]


def _rate_lines(rates: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    parts = sorted({part for rate in rates.values() for part in rate})
    table = [("scenario", *parts)]
    table += [(name, *(_percent(rate.get(part)) for part in parts)) for name, rate in rates.items()]
    return aligned_table(table)


def _mask_days(dataset: DatasetSpec, shared_set_id: str) -> str:
    where = {"shared_set_id": shared_set_id}
    days = sorted(published_days(dataset, MASKS, where))
    if not days:
        return NOTHING
    rows = sum(count_rows(dataset, MASKS, days, filters=where).values())
    return f"{rows:,} rows of {len(days)} days, {days[0]} .. {days[-1]}"


def _drift_lines(dataset: DatasetSpec, days: Sequence[DayDrift], is_own: bool) -> list[str]:
    """For each day scored after the search: score shift (PSI) and share rate of all rows, the parts that drifted."""
    if not days:
        return ["no day outside the window has been scored yet"]
    table = [("day", "rows", "psi", "shared", "of the window", "drifted")]
    for day in days:
        parts = ", ".join(part_name(dataset, part.scenario_id, is_own=is_own) for part in day.drifted)
        rates = (_percent(day.whole.share_rate), _percent(day.whole.window_share_rate))
        table.append((day.ds, f"{day.whole.rows:,}", _number(day.whole.psi), *rates, parts or "no"))
    return aligned_table(table)


def _curve_lines(dataset: DatasetSpec, selector_uri: str) -> list[str]:
    """The last epoch of each phase, and the file with all epochs."""
    try:
        path = curves_file(artifact_path(dataset, selector_uri))
    except TableError as error:  # a remote lake without MSR_ARTIFACTS_DIR
        return [str(error)]
    last = last_epochs(path)
    lines = [f"{phase}: {', '.join(f'{k} {_fact(v)}' for k, v in record.items())}" for phase, record in last.items()]
    return [*lines, f"all epochs: {path}" if last else f"{path} has none"]


def _gain_lines(runs: Sequence[TrainingRun], shared_set_id: str) -> list[str]:
    gains = validation_gains(runs, shared_set_id)
    lines = []
    for model in sorted({gain.model for gain in gains}):
        known = [g.difference for g in gains if g.model == model and g.difference is not None]
        if known:
            spread = f"{min(known):+.4f} .. {max(known):+.4f}"
            lines.append(f"{model}: {fmean(known):+.4f} on average of {len(known)} days ({spread})")
    for gain in gains:
        change = NOTHING if gain.difference is None else f"{gain.difference:+.4f}"
        aucs = f"{_number(gain.baseline_auc)} -> {_number(gain.selected_auc)}"
        lines.append(f"{gain.ds} {gain.model}: r = {gain.ratio:g}, {aucs}, {change}")
    return lines


def _run_lines(runs: Sequence[TrainingRun]) -> list[str]:
    days = sorted({run.ds for run in runs})
    return [f"{ds}: {', '.join(run.run_id for run in runs if run.ds == ds)}" for ds in days]


def _facts(values: Mapping[str, Any]) -> list[str]:
    width = max(map(len, values), default=0)
    return [f"{name:<{width}}  {_fact(value)}" for name, value in values.items()]


def _fact(value: object) -> str:
    """Rounded to six digits or whole seconds; `export` writes exact values."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return NOTHING if value is None or value == "" else str(value)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", title, *(f"  {line}" for line in lines or [NOTHING])]


def _percent(rate: float | None) -> str:
    return NOTHING if rate is None else f"{rate:.1%}"


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"
