"""Write the report of a data set: one self-contained HTML page with plots and the numbers under them.

It shows everything that the lake holds, so days may be made in any order: --ds changes nothing, --from and --to narrow
the days. The page lies at <MSR_REPORT_DIR>/<dataset>/index.html; <MSR_REPORT_DIR>/index.html is the same page, or leads
to each data set's where there are several. Prints a summary. Parts that are not made yet are said to be missing.
"""

from __future__ import annotations

import os
from pathlib import Path

from jobs.cli import StepArgs, StepOptions, progress, run_step
from jobs.reporting.collect import collect
from jobs.reporting.page import render, render_links
from jobs.reporting.summary import summarise
from lake.locations import report_dir
from schemas.errors import TableError

GROUP = "daily"


def write_report(html: str, dataset_name: str) -> Path:
    """Write the data set's page and the page above it, each in one piece; returns the latter's path."""
    root = report_dir()
    _write(root / dataset_name / "index.html", html)
    names = sorted(p.parent.name for p in root.glob("*/index.html"))
    index = root / "index.html"
    _write(index, html if names == [dataset_name] else render_links(names))
    return index


def step(args: StepArgs[StepOptions]) -> None:
    days = args.days if args.options.ds is None else []
    data = collect(args.dataset, days, args.options.dataset or args.dataset.name)
    if not (data.accounts or data.scores or data.sets):
        raise TableError(
            f"data set {args.dataset.name} has no tables to report on; run "
            f"'python -m jobs.ingest_impressions --dataset {args.dataset.name} --ds DAY' first, or check MSR_LAKE_ROOT"
        )
    index = write_report(render(data), args.dataset.name)
    print(summarise(data), flush=True)
    progress(f"report: {index} ({args.dataset.name}: {index.parent / args.dataset.name / 'index.html'})")


def _write(path: Path, text: str) -> None:
    """Aside, then rename: a reader never sees half a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


if __name__ == "__main__":
    run_step(__doc__, step, StepOptions, needs_days=False)
