"""Write docs/benchmarks.md from benchmarks/results/*.json, so that its tables are what was measured.

python -m benchmarks.render
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, shown
from lake.files import write_text
from schemas.text import markdown_table

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

`python -m benchmarks.render` writes this page from the files in `benchmarks/results`; the command above a table
measured it. Ratios are relative to a baseline measured in the same run. `--quick` ends any benchmark within a minute.
"""


def page(records: list[dict[str, Any]]) -> str:
    """The whole page."""
    return "\n".join([HEAD, *map(section, sorted(records, key=lambda r: r["name"]))])


def section(record: dict[str, Any]) -> str:
    """One benchmark: its command, where it ran, its tables, targets and notes."""
    machine, versions = (", ".join(f"{k} {v}" for k, v in record[key].items()) for key in ("machine", "versions"))
    ran = f"{machine}; {record['threads']} threads; {versions}; commit {record['commit'][:10]}, {record['at']}."
    parts = [f"## {record['name']}\n", f"    {record['command']}\n", f"{ran}\n"]
    for table in record["tables"]:
        base = f" Ratios are relative to: {table['baseline']}." if table["baseline"] else ""
        rows = ([shown(cell) for cell in row] for row in table["rows"])
        parts += [f"**{table['title']}.**{base}\n", markdown_table(table["columns"], rows)]
    if record["targets"]:
        targets = ([b["what"], b["required"], b["measured"], "yes" if b["met"] else "no"] for b in record["targets"])
        parts.append(markdown_table(["target", "required", "measured", "met"], targets))
    parts.append("\n".join(f"- {note}" for note in record["notes"]))
    return "\n".join(parts).rstrip() + "\n"


def read_records() -> list[dict[str, Any]]:
    """All full results."""
    files = sorted(p for p in RESULTS.glob("*.json") if not p.name.endswith(".quick.json"))
    return [json.loads(p.read_text(encoding="utf-8")) for p in files]


if __name__ == "__main__":
    write_text(PAGE, page(read_records()))
    print(f"written to {PAGE}")
