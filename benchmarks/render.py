"""Write docs/benchmarks.md from benchmarks/results/*.json, so that the tables are those that were measured.

python -m benchmarks.render
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, shown

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `python -m benchmarks.render` from the files in `benchmarks/results`; the command above a table
measured it. Ratios are against a baseline that ran in the same run. `--quick` runs any of them in at most a minute.
"""


def page(records: list[dict[str, Any]]) -> str:
    """The whole page."""
    return "\n".join([HEAD, *map(section, sorted(records, key=lambda r: r["name"]))])


def section(record: dict[str, Any]) -> str:
    """One benchmark: how it was run, its tables, its bars and notes."""
    described = ", ".join(f"{key} {value}" for key, value in record["machine"].items())
    versions = ", ".join(f"{key} {value}" for key, value in record["versions"].items())
    lines = [f"## {record['name']}", "", f"    {record['command']}", ""]
    lines += [
        f"{described}; {record['threads']} threads; {versions}; commit {record['commit'][:10]}, {record['at']}.",
        "",
    ]
    for table in record["tables"]:
        base = f" Ratios against: {table['baseline']}." if table["baseline"] else ""
        lines += [f"**{table['title']}.**{base}", "", _markdown(table), ""]
    if record["bars"]:
        lines += ["| bar | asked | measured | met |", "|---|---|---|---|"]
        lines += [
            f"| {b['what']} | {b['asked']} | {b['measured']} | {'yes' if b['met'] else 'no'} |" for b in record["bars"]
        ]
        lines.append("")
    lines += [f"- {note}" for note in record["notes"]]
    return "\n".join(lines).rstrip() + "\n"


def _markdown(table: dict[str, Any]) -> str:
    rows = [table["columns"], ["---"] * len(table["columns"]), *([shown(c) for c in row] for row in table["rows"])]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def read_records() -> list[dict[str, Any]]:
    """All full results."""
    files = sorted(p for p in RESULTS.glob("*.json") if not p.name.endswith(".quick.json"))
    return [json.loads(p.read_text(encoding="utf-8")) for p in files]


if __name__ == "__main__":
    PAGE.write_text(page(read_records()), encoding="utf-8")
    print(f"written to {PAGE}")
