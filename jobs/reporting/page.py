"""The report's page: header, what sharing changes, the shared set, calibration, the data's accounts, the runs."""

from __future__ import annotations

from html import escape

from jobs.reporting import account_figures, figures, sharing_figures
from jobs.reporting.collect import ALL_ROWS, ARM_NAMES, NO_SHARING, SELECTED, SHARE_ALL, ReportData
from jobs.reporting.drift_figures import drift_section
from jobs.reporting.html import (
    MISSING,
    difference,
    facts,
    figure,
    folded,
    note,
    number,
    page,
    percent,
    signed,
    table,
    warning,
)  # fmt: skip
from lake.locations import artifact_path
from msr_models.sets.usage import Run


def render(data: ReportData) -> str:
    """The whole page as one HTML text. The same data give the same bytes: no clock."""
    name = data.dataset.name
    parts = [_header(data)]
    if not data.scores:
        parts.append(warning("No evaluation yet: run search_shared_instances, train_target_model and evaluate."))
    parts += [_model(data, model) for model in data.models]
    parts += [_shared(data), _accounts(data), _runs(data)]
    return page(f"{name}: multi-scenario report", "\n".join(parts))


def render_links(names: list[str]) -> str:
    """A small page that leads to each data set's report."""
    items = "".join(f'<li><a href="{escape(n)}/index.html">{escape(n)}</a></li>' for n in names)
    return page("Multi-scenario reports", f"<h1>Reports</h1><p class=lead>One page per data set.</p><ul>{items}</ul>")


def repeat_command(data: ReportData, run: Run) -> str:
    """The command that trains a run again from its manifest."""
    manifest = artifact_path(data.dataset, run.checkpoint_uri).with_name("manifest.json")
    return f"python -m jobs.train_target_model --dataset {data.argument} --manifest {manifest}"


def _header(data: ReportData) -> str:
    days = [a.ds for a in data.accounts] or sorted({s.ds for s in data.scores})
    test_days = sorted({s.ds for s in data.scores if s.split == "test"})
    versions = sorted({_short(r.code_version) for r in data.runs})
    tiles = [
        ("days", f"{days[0]} .. {days[-1]} ({len(days)})" if days else "none yet"),
        ("rows in", f"{sum(a.rows_in for a in data.accounts):,}" if data.accounts else "none yet"),
        ("rows quarantined", f"{sum(a.rows_quarantined for a in data.accounts):,}" if data.accounts else "none yet"),
        ("scenarios", ", ".join(data.scenario_names)),
        ("test days", f"{test_days[0]} .. {test_days[-1]} ({len(test_days)})" if test_days else "none yet"),
        ("models", ", ".join(data.models) or "none yet"),
        ("shared-instance set", data.shared.summary.shared_set_id if data.shared else "none yet"),
        ("code version", ", ".join(versions) or "unknown"),
    ]
    about = escape(data.dataset.description)
    return f"<h1>{escape(data.dataset.name)}</h1>\n<p class=lead>{about}</p>{facts(tiles)}"


def _model(data: ReportData, model: str) -> str:
    days = data.test_days(model)
    if not days:
        return f"<h2>{escape(model)}</h2>" + note("Evaluated on validation only, there is no test day yet.")
    last = days[-1]
    title = f"<h2>{escape(model)}: what sharing changes</h2>"
    ties = [d for d in days if (s := data.score(model, d, SELECTED, ALL_ROWS)) and s.ratio == 0]
    words = f"AUC per scenario on the newest test day, {last}, with 95 % DeLong intervals."
    if ties:
        words += f" Validation chose no sharing (r = 0) on {len(ties)} of {len(days)} test days: one run for both arms."
    single = sum(s.single_class_scenarios for d in days if (s := data.score(model, d, SELECTED, ALL_ROWS)))
    if single:
        words += f" Scenario days without AUC because all rows have one class: {single}."
    return "".join(
        [
            title,
            f"<p>{escape(words)}</p>",
            figure(figures.auc_by_scenario(data, model, last), "No scenario has an AUC on this day."),
            _auc_table(data, model, last),
            "<h3>Day by day</h3>",
            note("Each panel has a scale of its own.") if len(days) > 1 else "",
            figure(figures.auc_by_day(data, model), "One test day only, see above."),
            folded("Numbers of all test days", _daily_table(data, model)),
            "<h3>Which ratio, chosen on validation</h3>",
            figure(figures.ratio_grid(data, model), "One ratio only was trained, there was nothing to choose from."),
            folded("Numbers of the ratios", _ratio_table(data, model)),
            "<h3>Calibration</h3>",
            figure(figures.calibration(data, model, last), "No scenario has positives on this day."),
            figure(figures.reliability(data, model), "The predictions of the newest runs are not there to be binned."),
            folded("Numbers of calibration and loss", _loss_table(data, model, last)),
        ]
    )


def _auc_table(data: ReportData, model: str, last: str) -> str:
    rows = []
    for k, name in data.scenarios_and_totals:
        aucs = [data.auc(model, last, arm, k) for arm in (SELECTED, NO_SHARING, SHARE_ALL)]
        score = data.score(model, last, NO_SHARING, k) or data.score(model, last, SELECTED, k)
        count = f"{score.rows:,}" if score else ""
        means = [data.mean_auc(model, arm, k) for arm in (SELECTED, NO_SHARING)]
        rows.append(
            [name, count, *map(number, aucs), signed(difference(aucs[0], aucs[1])), *map(number, means),
             signed(difference(means[0], means[1]))]
        )  # fmt: skip
    head = ["scenario", "rows", "selected", "no sharing", "share all", "gain", "mean: selected", "no sharing", "gain"]
    caption = f"AUC on {last}, and its mean over {len(data.test_days(model))} test days; gain = selected - no sharing"
    return table(head, rows, caption=caption)


def _daily_table(data: ReportData, model: str) -> str:
    rows = [
        [s.ds, data.scenario_names[k] if k >= 0 else "all rows", ARM_NAMES[arm], f"{s.ratio:g}", f"{s.rows:,}",
         f"{s.positives:,}", number(s.auc), number(s.auc_low), number(s.auc_high), number(s.s_gauc)]
        for ds in data.test_days(model)
        for k in (*range(data.dataset.num_scenarios), ALL_ROWS)
        for arm in (SELECTED, NO_SHARING, SHARE_ALL)
        if (s := data.score(model, ds, arm, k))
    ]  # fmt: skip
    head = ["day", "scenario", "arm", "r", "rows", "positives", "AUC", "low", "high", "S-GAUC"]
    return table(head, rows, caption="Test metrics", words=[1, 2])


def _ratio_table(data: ReportData, model: str) -> str:
    rows = [
        [r.ds, f"{r.ratio:g}", r.arm, number(r.validation_auc), number(r.validation_logloss), "chosen" * r.is_selected]
        for r in data.runs
        if r.model == model
    ]
    head = ["day", "r", "arm", "validation AUC (mean over scenarios)", "validation logloss", ""]
    return table(head, rows, caption="Validation per ratio", words=[2])


def _loss_table(data: ReportData, model: str, ds: str) -> str:
    rows = [
        [data.scenario_names[k] if k >= 0 else "all rows", ARM_NAMES[arm], f"{s.rows:,}", f"{s.positives:,}",
         number(s.logloss), number(s.calibration, 3)]
        for k in (*range(data.dataset.num_scenarios), ALL_ROWS)
        for arm in (SELECTED, NO_SHARING, SHARE_ALL)
        if (s := data.score(model, ds, arm, k))
    ]  # fmt: skip
    head = ["scenario", "arm", "rows", "positives", "logloss", "predicted / observed"]
    return table(head, rows, caption=f"Test day {ds}", words=[1])


def _shared(data: ReportData) -> str:
    title = "<h2>Shared instances</h2>"
    if data.shared is None:
        rejected = [f"{s.shared_set_id} ({s.status_reason})" for s in data.sets if s.status == "rejected"]
        words = f"Rejected: {'; '.join(rejected)}." if rejected else "Run search_shared_instances to make one."
        return title + warning(f"No set with masks yet. {words}")
    shared, one = data.shared, data.shared.summary
    words = (
        f"Set {one.shared_set_id}: searched on {one.window_start} .. {one.window_end} with {one.source_backbone} "
        f"(objective {one.objective}, seed {one.seed}); {percent(one.share_rate)} of the window's rows score above the "
        f"threshold {one.threshold:.3f} and are shared."
    )
    if shared.later_days:
        later = f"{shared.later_days[0]} .. {shared.later_days[-1]}"
        words += f" Scored later with the same selector: {later}, {percent(shared.later_share_rate)} shared."
    rows = [
        [s.scenario, f"{s.rows:,}", percent(s.rate()), percent(s.rate(0)), percent(s.rate(1))] for s in shared.shares
    ]
    lost = f"{shared.unlabelled_rows} rows of the masks have no features any more." if shared.unlabelled_rows else ""
    catalogue = [
        [s.shared_set_id, f"{s.window_start} .. {s.window_end}", percent(s.share_rate), s.status, s.status_reason]
        for s in data.sets
    ]
    return "".join(
        [
            title,
            f"<p>{escape(words)}</p>",
            warning(lost) if lost else "",
            f"<h3>Share rate</h3>{figure(sharing_figures.share_rates(shared), '')}",
            table(["scenario", "rows", "shared", "of label 0", "of label 1"], rows, caption="Rows of the window"),
            f"<h3>Scores</h3>{figure(sharing_figures.score_distribution(data, shared), '')}",
            drift_section(data),
            folded(
                "All sets",
                table(["set", "window", "shared", "status", "reason"], catalogue, caption="Catalogue", words=[4]),
            ),
        ]
    )


def _accounts(data: ReportData) -> str:
    title = "<h2>Rows in, rows quarantined</h2>"
    if not data.accounts:
        return title + warning("No day has been ingested yet: run ingest_impressions.")
    rows = [
        [a.ds, a.status, f"{a.rows_in:,}", f"{a.rows_published:,}", f"{a.rows_quarantined:,}",
         ", ".join(f"{reason} {count}" for reason, count in sorted(a.reasons.items())) or MISSING]
        for a in data.accounts
    ]  # fmt: skip
    head = ["day", "status", "rows in", "published", "quarantined", "reasons"]
    return "".join(
        [
            title,
            *map(warning, data.findings),
            "<h3>Published, by scenario</h3>",
            figure(account_figures.rows_published(data), ""),
            "<h3>Quarantined, by reason</h3>",
            figure(account_figures.rows_quarantined(data), "No row was refused."),
            folded("Numbers of all days", table(head, rows, caption="Accounts of impressions", words=[5])),
        ]
    )


def _short(code_version: str) -> str:
    """A commit's first digits; + marks changed files."""
    return code_version[:10] + ("+" if code_version[10:].endswith("+") else "")


def _runs(data: ReportData) -> str:
    title = "<h2>Runs, and how to repeat them</h2>"
    if not data.runs:
        return title + note("No run yet.")
    chosen = [r for r in data.runs if r.is_selected] or data.runs
    rows = [
        [r.ds, r.model, f"{r.ratio:g}", r.arm, r.shared_set_id or MISSING, f"{r.train_rows:,}", str(r.epochs),
         f"{r.train_seconds:.1f}", _short(r.code_version), r.run_id]
        for r in data.runs
    ]  # fmt: skip
    head = ["day", "model", "r", "arm", "set", "rows", "epochs", "seconds", "code", "run"]
    commands = "\n".join(repeat_command(data, r) for r in chosen)
    how = (
        "Each run's manifest (table training_runs) names the versions of all tables, the set, settings and seed."
        f" The newest was trained {max(r.created_at for r in data.runs):%Y-%m-%d %H:%M} UTC."
        " The selected runs are repeated, and their metrics compared, by:"
    )
    all_runs = folded(f"All {len(rows)} runs", table(head, rows, caption="training_runs", words=[4]))
    return f"{title}<p>{escape(how)}</p><pre><code>{escape(commands)}</code></pre>{all_runs}"
