"""Shared by all benchmarks: options, timing, tables, targets, and results as JSON.

Ratios are relative to a baseline measured in the same run. Full runs are written to benchmarks/results/<name>.json
(kept in git, rendered by `python -m benchmarks.render`), `--quick` runs to <name>.quick.json (not kept).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.cli.logs import configure_logging
from msr_models.training.manifest import code_version
from schemas.text import aligned_table

RESULTS = Path(__file__).parent / "results"

Cell = str | int | float | None


@dataclass(kw_only=True)
class Table:
    """A table of results; `baseline`: what its ratios are relative to."""

    title: str
    columns: Sequence[str]
    baseline: str = ""
    rows: list[Sequence[Cell]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """Add a row. Raises ValueError if it has not one cell per column."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{self.title}: {len(cells)} cells for {len(self.columns)} columns")
        self.rows.append(cells)

    def last_row(self) -> str:
        """The newest row as one line for the log."""
        return " ".join(map(shown, self.rows[-1]))


@dataclass(kw_only=True)
class Target:
    """A limit that a measurement has to keep, and the measurement."""

    what: str
    required: str
    measured: str
    met: bool


def parser(doc: str) -> argparse.ArgumentParser:
    """A parser with --quick, --threads and --out. Sets up logging too."""
    configure_logging()
    logging.getLogger("msr_models").setLevel(logging.WARNING)  # a benchmark logs its own rows, not every epoch
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="small sizes, at most 60 s; does not check targets")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads (default: all)")
    made.add_argument(
        "--out", type=Path, metavar="FILE", help="write the results to FILE (default: benchmarks/results)"
    )
    return made


def median_seconds(work: Callable[[], object], *, repeat: int, warm_up: int = 1) -> float:
    """Median wall time of `work` after `warm_up` untimed calls."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def machine() -> dict[str, Cell]:
    """Processor, cores and memory."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"cpu": model, "cores": os.cpu_count(), "memory_gb": round(pages / 2**30, 1)}


def report(
    name: str,
    tables: Sequence[Table],
    *,
    command: str,
    libraries: Sequence[str],
    options: argparse.Namespace,
    targets: Sequence[Target] = (),
    notes: Sequence[str] = (),
    extra_machine: dict[str, Cell] | None = None,
) -> None:
    """Print tables and targets, and write them with the machine, versions and commit."""
    for table in tables:
        print(f"\n{table.title}" + (f"  (ratios relative to: {table.baseline})" if table.baseline else ""))
        print("\n".join(aligned_table([table.columns, *([shown(c) for c in row] for row in table.rows)])))
    for target in targets:
        verdict = "met   " if target.met else "MISSED"
        print(f"{verdict} {target.what}: required {target.required}, measured {target.measured}")
    for note in notes:
        print(f"note: {note}")
    record: dict[str, Any] = {
        "name": name,
        "command": command,
        "quick": options.quick,
        "threads": options.threads,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": code_version(),
        "machine": machine() | (extra_machine or {}),
        "versions": {"python": platform.python_version()} | {lib: importlib.metadata.version(lib) for lib in libraries},
        "tables": [asdict(t) for t in tables],
        "targets": [asdict(b) for b in targets],
        "notes": list(notes),
    }
    path = options.out or RESULTS / (f"{name}.quick.json" if options.quick else f"{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}")


def shown(cell: Cell) -> str:
    """A cell as text: floats with three significant digits, thousands separated."""
    if cell is None:
        return "-"
    if isinstance(cell, str | int):
        return f"{cell:,}" if isinstance(cell, int) else cell
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
