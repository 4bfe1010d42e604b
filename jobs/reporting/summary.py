"""The report in a terminal: row counts, set and share rates, AUC per scenario with and without sharing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jobs.reporting.collect import NO_SHARING, SELECTED, SHARE_ALL, ReportData, counts
from jobs.reporting.drift_figures import flag_lines
from jobs.reporting.formats import contrast_text, difference, number, percent, signed
from schemas.text import aligned_table


def summarise(data: ReportData) -> str:
    """A few aligned tables, each with a heading."""
    lines = [f"data set {data.dataset.name}", *_row_counts(data), *_shared_set(data)]
    for model in data.models:
        lines += _model(data, model)
    return "\n".join(lines)


def _indented(rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"  {line}" for line in aligned_table(rows)]


def _row_counts(data: ReportData) -> list[str]:
    if not data.audits:
        return ["rows: no day has been ingested yet"]
    rows = [(a.rows_in, a.rows_published, a.rows_quarantined) for a in data.audits]
    table = [["day", "rows in", "published", "quarantined", "status"]]
    table += [[audit.ds, *map(str, row), audit.status] for audit, row in zip(data.audits, rows, strict=True)]
    table.append(["total", *(f"{sum(column)}" for column in zip(*rows, strict=True)), ""])
    reasons: Counter[str] = Counter()
    for audit in data.audits:
        reasons.update(counts(audit.quarantine_reasons))
    why = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    return ["rows", *_indented(table), *([f"  quarantined for: {why}"] if why else [])]


def _shared_set(data: ReportData) -> list[str]:
    if data.shared is None:
        return ["shared-instance set: none with masks yet"]
    one, shares = data.shared.shared_set, data.shared.shares
    table = [["scenario", "rows", "shared", "label 0", "label 1"]]
    table += [[s.scenario, f"{s.rows}", *map(percent, (s.rate(), s.rate(0), s.rate(1)))] for s in shares]
    flagged = flag_lines(data)
    return [
        f"shared-instance set {one.shared_set_id} ({one.status}), window {one.window_start} .. {one.window_end}, "
        f"share rate {percent(one.share_rate)}",
        *_indented(table),
        f"  drift: {len(flagged)} of {len(data.drift)} later days flagged",
        *(f"    {line}" for line in flagged),
    ]


def _model(data: ReportData, model: str) -> list[str]:
    days = data.test_days(model)
    if not days:
        return [f"{model}: no test day yet"]
    head = ["scenario", "no sharing", "share all", "selected", "gain", "gain over floor"]
    table = [[*head, f"{days[-1]}: no sharing", "selected"]]
    for k, name in data.scenarios_and_totals:
        none, every, chosen = (data.mean_auc(model, arm, k) for arm in (NO_SHARING, SHARE_ALL, SELECTED))
        last = [data.auc(model, days[-1], arm, k) for arm in (NO_SHARING, SELECTED)]
        gains = [signed(difference(chosen, none)), contrast_text(data.mean_gain(model, "floor", "auc", k))]
        table.append([name, *map(number, (none, every, chosen)), *gains, *map(number, last)])
    ratios = ", ".join(f"{test.ds}: {test.ratio:g}" for test in data.selected_tests(model)) or "none"
    return [f"{model}: test AUC, mean over {len(days)} days", *_indented(table), f"  ratio chosen: {ratios}"]
