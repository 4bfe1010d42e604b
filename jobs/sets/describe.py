"""Sets and their comparison as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from jobs.sets.compare import SetDifference
from jobs.sets.export import read_row
from jobs.sets.manage import pin_spans
from jobs.sets.usage import Gain, Run, read_runs, runs_of, validation_gains
from msr_models.data.lake_reader import read_table
from msr_models.data.search_schedule import drift_flags
from msr_models.data.shared_sets import read_catalogue
from schemas.dataset_spec import DatasetSpec

NOTHING = "-"
# Shown in a section of their own
_SECTIONS = ("config", "table_versions", "share_rates", "validation_metrics")


def list_lines(dataset: DatasetSpec) -> list[str]:
    """One line per set, oldest window first."""
    catalogue = read_catalogue(dataset)
    if not catalogue.sets:
        return [
            f"{dataset.name} has no shared sets yet; run: python -m jobs.search_shared_instances "
            f"--dataset {dataset.name} --ds DAY"
        ]
    rates = read_table(dataset.name, "shared_instance_sets", columns=["shared_set_id", "share_rate"]).to_pylist()
    rate_of = {row["shared_set_id"]: row["share_rate"] for row in rates}
    runs = read_runs(dataset)
    rows = [("id", "window", "backbone", "status", "shared", "runs", "pinned")]
    for found in catalogue.sets:
        rows.append(
            (
                found.shared_set_id,
                f"{found.window_start} .. {found.window_end}",
                found.source_backbone,
                found.status,
                _percent(rate_of[found.shared_set_id]),
                str(len(runs_of(runs, found.shared_set_id))),
                "; ".join(pin_spans(catalogue.pins, found.shared_set_id)) or NOTHING,
            )
        )
    return _aligned(rows)


def show_lines(dataset: DatasetSpec, shared_set_id: str) -> list[str]:
    """All that is known of a set. Raises SharedSetError for an unknown id."""
    row = read_row(dataset, shared_set_id)
    pins = "; ".join(pin_spans(read_catalogue(dataset).pins, shared_set_id))
    runs = read_runs(dataset)
    facts = {name: value for name, value in row.items() if name not in _SECTIONS} | {"pinned": pins}
    flags = sorted(drift_flags(dataset).items())
    drifted = [str(day) for (set_id, day), is_drifted in flags if set_id == shared_set_id and is_drifted]
    return [
        *_facts(facts),
        *_section("share rates", _rate_lines(row["share_rates"])),
        *_section("validation of the source backbone", _facts(row["validation_metrics"])),
        *_section("validation gain, mean scenario AUC: selected ratio against r = 0", _gain_lines(runs, shared_set_id)),
        *_section("used by", _run_lines(runs_of(runs, shared_set_id))),
        *_section("drifted days", drifted),
        *_section("configuration", _facts(row["config"])),
        *_section("table versions", _facts(row["table_versions"])),
    ]


def difference_lines(dataset: DatasetSpec, first: str, second: str, found: SetDifference) -> list[str]:
    """Overlap and rank correlation, all and per scenario."""
    common = found.overlaps[0].rows
    rows = [("scenario", "common rows", "shared first", "shared second", "jaccard", "rank correlation")]
    for part in found.overlaps:
        name = "all" if part.scenario_id < 0 else dataset.scenario.names[part.scenario_id]
        counts = (f"{part.rows:,}", f"{part.shared_first:,}", f"{part.shared_second:,}")
        rows.append((name, *counts, _number(part.jaccard), _number(part.rank_correlation)))
    return [
        f"first:  {first}",
        f"second: {second}",
        f"instances: {common:,} in both ({len(found.days)} days), {found.only_first:,} only in the first, "
        f"{found.only_second:,} only in the second",
        *_aligned(rows),
    ]


def _rate_lines(rates: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    parts = sorted({part for rate in rates.values() for part in rate})
    table = [("scenario", *parts)]
    table += [(name, *(_percent(rate.get(part)) for part in parts)) for name, rate in rates.items()]
    return _aligned(table) if rates else []


def _gain_lines(runs: Sequence[Run], shared_set_id: str) -> list[str]:
    gains = validation_gains(runs, shared_set_id)
    lines = []
    for model in sorted({gain.model for gain in gains}):
        known = [g.difference for g in gains if g.model == model and g.difference is not None]
        if known:
            spread = f"{min(known):+.4f} .. {max(known):+.4f}"
            lines.append(f"{model}: {fmean(known):+.4f} on average of {len(known)} days ({spread})")
    return lines + [_gain_line(gain) for gain in gains]


def _gain_line(gain: Gain) -> str:
    change = NOTHING if gain.difference is None else f"{gain.difference:+.4f}"
    baseline, selected = _number(gain.baseline_auc), _number(gain.selected_auc)
    return f"{gain.ds} {gain.model}: r = {gain.ratio:g}, {baseline} -> {selected}, {change}"


def _run_lines(runs: Sequence[Run]) -> list[str]:
    days = sorted({run.ds for run in runs})
    return [f"{ds}: {', '.join(run.run_id for run in runs if run.ds == ds)}" for ds in days]


def _facts(values: Mapping[str, Any]) -> list[str]:
    width = max(map(len, values), default=0)
    return [f"{name:<{width}}  {NOTHING if value in (None, '') else value}" for name, value in values.items()]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", title, *(f"  {line}" for line in lines or [NOTHING])]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_padded(row, widths)).rstrip() for row in rows]


def _padded(row: tuple[str, ...], widths: Iterable[int]) -> list[str]:
    return [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]


def _percent(rate: float | None) -> str:
    return NOTHING if rate is None else f"{rate:.1%}"


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"
