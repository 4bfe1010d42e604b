"""Write the report of a data set: one self-contained HTML page with plots and the numbers behind them.

It shows everything in the lake, so days may be made in any order: --ds changes nothing, --from and --to narrow the
days. The page is written to <MSR_REPORT_DIR>/<dataset>/index.html; <MSR_REPORT_DIR>/index.html is the same page, or
links to each data set's where there are several. Prints a summary. Missing parts are named as missing.
"""

from __future__ import annotations

import logging
from pathlib import Path

from jobs.cli import StepArgs, StepOptions, run_step
from jobs.reporting.collect import collect
from jobs.reporting.page import render, render_index
from jobs.reporting.summary import summarise
from lake.files import write_text
from lake.locations import report_dir
from schemas.commands import command
from schemas.errors import TableError

log = logging.getLogger(__name__)

GROUP = "daily"


def write_report(html: str, dataset_name: str) -> Path:
    """Write the data set's page and the page above it, each in one step; returns the latter's path."""
    root = report_dir()
    write_text(root / dataset_name / "index.html", html)
    names = sorted(p.parent.name for p in root.glob("*/index.html"))
    index = root / "index.html"
    alone = html.replace('href="data_docs/', f'href="{dataset_name}/data_docs/')
    write_text(index, alone if names == [dataset_name] else render_index(names))
    return index


def step(args: StepArgs[StepOptions]) -> None:
    """Write the page of all days, or of a range."""
    dataset = args.dataset
    days = args.days if args.options.ds is None else []
    data = collect(dataset, days, args.options.dataset)
    if not (data.audits or data.evaluations or (data.sets and not days)):
        when = f" for {days[0]} .. {days[-1]}" if days else ""
        raise TableError(
            f"data set {dataset.name} has no tables to report on{when}; run "
            f"'{command('ingest_impressions', dataset, '--ds DAY')}' first, or check MSR_LAKE_ROOT"
        )
    index = write_report(render(data), dataset.name)
    print(summarise(data), flush=True)
    log.info(f"report: {index} ({dataset.name}: {index.parent / dataset.name / 'index.html'})")


if __name__ == "__main__":
    run_step(__doc__, step, StepOptions, needs_days=False)
