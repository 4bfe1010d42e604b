"""Every step, table and file keeps what docs/contracts.md and the house rules promise."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from schemas.load_dataset import known_datasets, load_dataset
from schemas.tables import get_table, table_names
from tests.support.source_tree import ROOMS, ROOT, imports_of, python_files, steps, tracked_files

CONTRACTS = (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8")
LONG_FILE, TOO_LONG_FILE, LARGE_FILE = 300, 400, 1_000_000


@pytest.mark.parametrize("module", steps())
def test_a_step_stands_in_the_contracts(module: str) -> None:
    assert f"| {module.removeprefix('jobs.')} " in CONTRACTS


def test_every_documented_step_exists() -> None:
    table = CONTRACTS.split("| step | engine | writes |")[1].split("\n\n")[0]
    documented = re.findall(r"^\| (\w+)", table, flags=re.MULTILINE)
    assert documented and {f"jobs.{name}" for name in documented} == set(steps())


@pytest.mark.parametrize("table", table_names())
def test_a_table_is_documented_and_complete(table: str) -> None:
    spec = get_table(table)
    assert spec.name == table, "the module's name is the table's"
    assert re.search(rf"\b{table}\b", CONTRACTS)
    assert f"jobs.{spec.written_by}" in steps()
    assert all(column.doc for column in spec.columns)


@pytest.mark.parametrize("name", known_datasets())
def test_a_data_set_loads_under_its_own_name(name: str) -> None:
    assert load_dataset(name).name == name


def test_every_step_has_help_that_says_what_it_does() -> None:
    """All in one process: each step's `--help` ends with 0, begins with usage and holds more than the options."""
    code = (
        "import contextlib, io, json, runpy, sys\n"
        "texts = {}\n"
        f"for name in {steps()!r}:\n"
        "    sys.argv = [name, '--help']\n"
        "    out = io.StringIO()\n"
        "    try:\n"
        "        with contextlib.redirect_stdout(out): runpy.run_module(name, run_name='__main__', alter_sys=True)\n"
        "    except SystemExit as end: texts[name] = [end.code, out.getvalue()]\n"
        "print(json.dumps(texts))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    texts = json.loads(done.stdout.splitlines()[-1])
    assert set(texts) == set(steps())
    for name, (code_, text) in texts.items():
        described = text.split("options:")[0].split("\n\n", 1)[-1].strip()
        assert code_ == 0 and text.startswith("usage:") and "--dataset" in text, name
        assert len(described) > 20, f"{name} has no description"


def test_no_file_is_too_long() -> None:
    files = [p for p in tracked_files("*.py") if p.is_relative_to(ROOT)]
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in files}
    for name, length in lengths.items():
        if length > LONG_FILE:
            warnings.warn(f"{name} has {length} lines (aim: {LONG_FILE})", stacklevel=1)
    assert {n: count for n, count in lengths.items() if count > TOO_LONG_FILE} == {}


def test_no_large_file_is_tracked() -> None:
    large = {str(p.relative_to(ROOT)): p.stat().st_size for p in tracked_files() if p.stat().st_size > LARGE_FILE}
    assert large == {}


@pytest.mark.parametrize("room", ROOMS)
def test_every_file_says_what_it_is(room: str) -> None:
    empty = [p for p in python_files(room) if not _docstring(p)]
    assert empty == []


def test_only_the_lake_modules_write_delta_tables() -> None:
    rooms = (python_files(room) for room in ("jobs", "lake", "msr_models"))
    writers = {p.name for files in rooms for p in files if _writes_delta(p)}
    assert writers <= {"arrow_writer.py", "spark_writer.py"}


def _docstring(path: Path) -> str | None:
    import ast

    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def _writes_delta(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    spark_write = re.search(r"\.(saveAsTable|insertInto)\(|format\([\"']delta[\"']\)\s*\.mode\(", text)
    return "deltalake.write_deltalake" in imports_of(path) or spark_write is not None
