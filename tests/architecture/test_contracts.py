"""Files, steps, tables and data sets are complete, and the docs name what there is."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import warnings

import pytest

from schemas.load_dataset import known_datasets, load_dataset
from schemas.tables import get_table, table_names
from tests.support.source_tree import ROOMS, ROOT, commands, module_name, python_files, steps, tracked_files, tree_of

PAGES = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]
LONG_FILE, TOO_LONG_FILE, LARGE_FILE = 300, 400, 1_000_000


@pytest.mark.parametrize("name", [*(step.removeprefix("jobs.") for step in steps()), *table_names()])
def test_the_contracts_page_names_every_step_and_table(name: str) -> None:
    assert re.search(rf"\b{name}\b", (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8"))


def test_every_command_that_is_written_down_exists() -> None:
    """In pages, docstrings, errors and scripts."""
    sources = tracked_files("*.py", "*.sh", "*.yaml", "Makefile")
    files = [*PAGES, *(path for path in sources if not path.is_relative_to(ROOT / "tests"))]
    called = re.compile(r"-m (jobs\.[a-z_]+(?:\.[a-z_]+)*)")
    found = {name: path for path in files for name in called.findall(path.read_text(encoding="utf-8"))}
    known = {module_name(path) for path in commands()}
    assert len(found) > 10 and {name: path for name, path in found.items() if name not in known} == {}


@pytest.mark.parametrize("table", table_names())
def test_a_tables_module_has_its_name(table: str) -> None:
    assert get_table(table).name == table


@pytest.mark.parametrize("name", known_datasets())
def test_a_data_set_loads_under_its_own_name(name: str) -> None:
    assert load_dataset(name).name == name


def test_every_command_has_help_that_says_what_it_does() -> None:
    """All in one process: each command's `--help` ends with 0, begins with usage and holds more than the options."""
    names = [module_name(path) for path in commands()]
    code = (
        "import contextlib, io, json, runpy, sys\n"
        "texts = {}\n"
        f"for name in {names!r}:\n"
        "    sys.argv = [name, '--help']\n"
        "    out = io.StringIO()\n"
        "    try:\n"
        "        with contextlib.redirect_stdout(out): runpy.run_module(name, run_name='__main__', alter_sys=True)\n"
        "    except SystemExit as end: texts[name] = [end.code, out.getvalue()]\n"
        "print(json.dumps(texts))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    texts = json.loads(done.stdout.splitlines()[-1])
    assert set(texts) == set(names)
    for name, (exit_code, text) in texts.items():
        described = text.split("options:")[0].split("\n\n", 1)[-1].strip()
        assert exit_code == 0 and text.startswith("usage:"), name
        assert len(described) > 20, f"{name} has no description"
        assert name not in steps() or "--dataset" in text, name


def test_no_file_is_too_long() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in tracked_files("*.py")}
    for name, length in lengths.items():
        if length > LONG_FILE:
            warnings.warn(f"{name} has {length} lines (aim: {LONG_FILE})", stacklevel=1)
    assert {n: count for n, count in lengths.items() if count > TOO_LONG_FILE} == {}


def test_no_large_file_is_tracked() -> None:
    large = {str(p.relative_to(ROOT)): p.stat().st_size for p in tracked_files() if p.stat().st_size > LARGE_FILE}
    assert large == {}


@pytest.mark.parametrize("room", ROOMS)
def test_every_file_says_what_it_is(room: str) -> None:
    assert [p for p in python_files(room) if not ast.get_docstring(tree_of(p))] == []
