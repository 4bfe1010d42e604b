"""One thing, one place: tables, commands, locks, retries, atomic writes and hints are each made in one module."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from schemas.engines import ENGINES
from schemas.table_spec import Row, TableSpec
from schemas.tables import get_table, table_names
from tests.support.source_tree import (
    ROOMS,
    ROOT,
    commands,
    functions_called,
    imports_of,
    module_name,
    python_files,
    runs_a_command,
    tree_of,
)

SOURCES = [path for room in ROOMS for path in python_files(room) if room != "scripts"]
LIBRARIES = [*python_files("lake"), *python_files("msr_models")]
# Imported name -> the only modules that may use it
OWNERS = {
    "filelock": {"lake.lock"},
    "fcntl": set(),
    "tenacity": {"lake.retry"},
    "difflib": {"schemas.text"},
    "deltalake.write_deltalake": {"lake.arrow_writer"},
}


def test_a_name_table_is_a_tablespec_and_lies_in_schemas_tables() -> None:
    holders = {module_name(path) for path in SOURCES if "TABLE" in _names_at_top(path)}
    assert holders == {f"schemas.tables.{name}" for name in table_names()}
    assert all(isinstance(get_table(name), TableSpec) for name in table_names())


def test_a_row_class_lies_beside_its_table() -> None:
    rows = {name: row for name in table_names() if (row := get_table(name).row)}
    assert rows and {name: row.__module__ for name, row in rows.items()} == {n: f"schemas.tables.{n}" for n in rows}
    assert {name: row.table for name, row in rows.items()} == {name: name for name in rows}
    elsewhere = [module_name(p) for p in SOURCES if p.parent.name != "tables" and Row.__name__ in _bases_in(p)]
    assert elsewhere == []


def test_jobs_holds_one_command_per_file_and_nothing_else() -> None:
    at_top = [path for path in (ROOT / "jobs").glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert [p.name for p in at_top if p not in commands()] == [], "a library: put it in one of jobs' packages"
    others = {path for path in python_files("jobs") if runs_a_command(path)} - set(commands())
    assert {module_name(path) for path in others} <= {"jobs.cli.run"}


def test_every_table_is_written_by_a_command() -> None:
    assert {
        name: get_table(name).written_by for name in table_names() if get_table(name).written_by not in ENGINES
    } == {}


@pytest.mark.parametrize("name", OWNERS)
def test_a_library_is_used_in_one_module(name: str) -> None:
    assert {module_name(path) for path in SOURCES if name in imports_of(path)} <= OWNERS[name]


def test_files_are_replaced_by_lake_files_alone() -> None:
    renaming = re.compile(r"\bos\.(replace|rename)\(|\bshutil\.move\(")
    found = {module_name(p) for p in SOURCES if renaming.search(p.read_text(encoding="utf-8"))}
    # The resume state also removes what other processes of its machine abandoned, by the names of their partial files
    assert found <= {"lake.files", "msr_models.training.state"}


def test_spark_writes_delta_in_one_module() -> None:
    writing = re.compile(r"\.(saveAsTable|insertInto)\(|format\([\"']delta[\"']\)\s*\.mode\(")
    assert {module_name(p) for p in SOURCES if writing.search(p.read_text(encoding="utf-8"))} == {"lake.spark_writer"}


def test_libraries_name_commands_through_schemas_commands() -> None:
    """Comments and docstrings included; literals that stand side by side are one text."""
    texts = {path: path.read_text(encoding="utf-8") + " ".join(_literals(path)) for path in LIBRARIES}
    assert [
        module_name(path) for path, text in texts.items() if re.search(r"python -m|-m jobs|\bjobs\.\w+ --", text)
    ] == []


def test_libraries_log_and_do_not_print() -> None:
    assert [module_name(path) for path in LIBRARIES if "print" in functions_called(path)] == []


def _names_at_top(path: Path) -> set[str]:
    names: set[str] = set()
    for node in tree_of(path).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names.update(name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
    return names


def _bases_in(path: Path) -> set[str]:
    classes = (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef))
    return {ast.unparse(base).split(".")[-1] for node in classes for base in node.bases}


def _literals(path: Path) -> list[str]:
    return [n.value for n in ast.walk(tree_of(path)) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
