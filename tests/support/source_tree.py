"""What the source files import: read from their text, functions' own imports included."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "lake", "msr_models", "jobs", "dags", "scripts")
# Folders that Python finds the modules of other rooms in: pyproject.toml puts dags/ on the path
SEARCH_PATH = (ROOT, ROOT / "dags")


def tracked_files(*patterns: str) -> list[Path]:
    """Files that git knows in this checkout and that exist, as absolute paths."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


def python_files(room: str) -> list[Path]:
    """All Python files of a room or of a folder in it, sorted."""
    return sorted(p for p in (ROOT / room).rglob("*.py") if "__pycache__" not in p.parts)


def module_name(path: Path) -> str:
    """`jobs/report.py` -> `jobs.report`, `schemas/tables/__init__.py` -> `schemas.tables`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def commands() -> list[Path]:
    """Files of jobs/ and jobs/research/, packages' own `__init__.py` and `__main__.py` aside, that run a command."""
    files = [*(ROOT / "jobs").glob("[!_]*.py"), *(ROOT / "jobs" / "research").glob("[!_]*.py")]
    return sorted(p for p in files if runs_a_command(p))


def steps() -> list[str]:
    """Module names of the commands that work on a data set."""
    return [module_name(p) for p in commands() if "run_step" in functions_called(p)]


def runs_a_command(path: Path) -> bool:
    """Whether the file calls `run_step` or `run_command`."""
    return not functions_called(path).isdisjoint({"run_step", "run_command"})


def functions_called(path: Path) -> set[str]:
    """Names that a file calls as plain functions."""
    nodes = ast.walk(tree_of(path))
    return {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


@cache
def tree_of(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Dotted names that a file imports anywhere at run time, so not under `if TYPE_CHECKING`.

    `from a import b` counts as `a` and `a.b`: b may be a module.
    """
    found: set[str] = set()
    for node in _imports(path):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        else:
            found.add(str(node.module))
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


@cache
def modules_imported_by(path: Path) -> frozenset[Path]:
    """Our modules whose content a file uses: of `from package import module` the module alone, not the package."""
    found: set[Path | None] = set()
    for node in _imports(path):
        if isinstance(node, ast.Import):
            found.update(file_of(alias.name) for alias in node.names)
        else:
            package = file_of(str(node.module))
            found.update(file_of(f"{node.module}.{alias.name}") or package for alias in node.names)
    return frozenset(p for p in found if p is not None)


@cache
def reached_from(module: str) -> frozenset[str]:
    """Top-level names of all packages that a module of ours imports, itself or through other modules of ours."""
    seen: set[Path] = set()
    tops: set[str] = set()
    pending = _files_run_by(module)
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imports_of(path):
            tops.add(name.split(".")[0])
            pending.extend(_files_run_by(name))
    return frozenset(tops)


def file_of(module: str) -> Path | None:
    """The file of a module or package of ours; None for others and for names inside a module."""
    for folder in SEARCH_PATH:
        base = folder.joinpath(*module.split("."))
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


def _files_run_by(module: str) -> list[Path]:
    """The files that importing a name runs: its module's and those of the packages around it."""
    parts = module.split(".")
    files = (file_of(".".join(parts[:n])) for n in range(1, len(parts) + 1))
    return [path for path in files if path is not None]


def _imports(path: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    pending: list[ast.AST] = [tree_of(path)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative import; write the whole name"
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        pending.extend(ast.iter_child_nodes(node))
