"""The report in a terminal: row accounts, set and share rates, AUC per scenario with and without sharing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jobs.reporting.collect import ALL_ROWS, NO_SHARING, SELECTED, SHARE_ALL, ReportData
from jobs.reporting.drift_figures import flag_lines
from jobs.reporting.html import difference, number, percent, signed


def summarise(data: ReportData) -> str:
    """A few aligned tables, each with a heading."""
    parts = [f"data set {data.dataset.name}", *_accounts(data), *_set(data)]
    for model in data.models:
        parts += _model(data, model)
    return "\n".join(parts)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned lines: the first column to the left, the others to the right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return [
        "  " + "  ".join(c.ljust(w) if n == 0 else c.rjust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


def _accounts(data: ReportData) -> list[str]:
    if not data.accounts:
        return ["rows: no day has been ingested yet"]
    reasons: Counter[str] = Counter()
    for account in data.accounts:
        reasons.update(account.reasons)
    total = [sum(getattr(a, n) for a in data.accounts) for n in ("rows_in", "rows_published", "rows_quarantined")]
    rows = [["day", "rows in", "published", "quarantined", "status"]]
    rows += [[a.ds, f"{a.rows_in}", f"{a.rows_published}", f"{a.rows_quarantined}", a.status] for a in data.accounts]
    rows.append(["total", *map(str, total), ""])
    why = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    return ["rows", *columns(rows), *([f"  quarantined for: {why}"] if why else [])]


def _set(data: ReportData) -> list[str]:
    if data.shared is None:
        return ["shared-instance set: none with masks yet"]
    one = data.shared.summary
    rows = [["scenario", "rows", "shared", "label 0", "label 1"]]
    rows += [[s.scenario, f"{s.rows}", *map(percent, (s.rate(), s.rate(0), s.rate(1)))] for s in data.shared.shares]
    head = f"shared-instance set {one.shared_set_id} ({one.status}), window {one.window_start} .. {one.window_end}, "
    compared = f"  drift: {sum(bool(day.drifted) for day in data.drift)} of {len(data.drift)} later days flagged"
    return [
        f"{head}share rate {percent(one.share_rate)}",
        *columns(rows),
        compared,
        *(f"    {line}" for line in flag_lines(data)),
    ]


def _model(data: ReportData, model: str) -> list[str]:
    days = data.test_days(model)
    if not days:
        return [f"{model}: no test day yet"]
    rows = [["scenario", "no sharing", "share all", "selected", "gain", f"{days[-1]}: no sharing", "selected"]]
    for k, name in data.scenarios_and_totals:
        none, every, chosen = (data.mean_auc(model, arm, k) for arm in (NO_SHARING, SHARE_ALL, SELECTED))
        last = [data.auc(model, days[-1], arm, k) for arm in (NO_SHARING, SELECTED)]
        gain = signed(difference(chosen, none))
        rows.append([name, *map(number, (none, every, chosen)), gain, *map(number, last)])
    ratios = ", ".join(
        f"{ds}: {s.ratio:g}" for ds in days if (s := data.score(model, ds, SELECTED, ALL_ROWS)) is not None
    )
    return [f"{model}: test AUC, mean over {len(days)} days", *columns(rows), f"  ratio chosen: {ratios or 'none'}"]
