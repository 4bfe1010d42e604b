"""Benchmark tables are what was measured, and every benchmark has the options that all have."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.render import PAGE, page, read_records
from tests.support.source_tree import ROOT

BENCHMARKS = sorted(p.stem for p in (ROOT / "benchmarks").glob("bench_*.py"))


def test_the_page_shows_the_results_that_are_kept() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(read_records()), "run: python -m benchmarks.render"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_has_help_and_a_quick_form(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--quick" in done.stdout and len(done.stdout.split("options:")[0]) > 100


def test_a_report_holds_tables_bars_and_where_they_come_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = harness.Table(title="speed", columns=["form", "rows/s", "ratio"], baseline="the slow form")
    table.add("slow", 1234.5, 1.0)
    table.add("fast", 12345, None)
    target = harness.Target(what="fast", required=">= 2x", measured="10x", met=True)
    options = argparse.Namespace(quick=False, threads=2, out=tmp_path / "x.json")
    harness.report("x", [table], command="run x", libraries=["numpy"], options=options, targets=[target])
    out = capsys.readouterr().out
    assert "1,234" in out and "12,345" in out and "met" in out
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["tables"][0]["rows"][1] == ["fast", 12345, None] and record["versions"]["numpy"]
    assert "| fast | 12,345 | - |" in page([record])


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        harness.Table(title="t", columns=["a", "b"]).add(1)


def test_the_median_leaves_out_the_warm_up() -> None:
    calls: list[int] = []
    assert harness.median_seconds(lambda: calls.append(1), repeat=3, warm_up=2) >= 0
    assert len(calls) == 5
