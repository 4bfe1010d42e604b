"""What the files of the rooms import: read from the source, functions' own imports included."""

from __future__ import annotations

import ast
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "lake", "jobs", "msr_models", "dags")


def tracked_files(*patterns: str) -> list[Path]:
    """Files that git knows in this checkout and that exist, as absolute paths."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


def python_files(room: str) -> list[Path]:
    """All Python files of a room, sorted."""
    return sorted(p for p in (ROOT / room).rglob("*.py") if "__pycache__" not in p.parts)


def module_name(path: Path) -> str:
    """`jobs/cli.py` -> `jobs.cli`, `schemas/tables/__init__.py` -> `schemas.tables`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def steps() -> list[str]:
    """Module names of all commands that work on a data set: files of jobs/ and jobs/research/ that call run_step."""
    return [module_name(p) for p in sorted((ROOT / "jobs").glob("*.py")) if _calls(p, "run_step")]


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Dotted names that a file imports anywhere at run time; blocks under `if TYPE_CHECKING` are left out."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        pending.extend(ast.iter_child_nodes(node))
    return frozenset(found)


@cache
def reached_from(module: str) -> frozenset[str]:
    """Top-level names of all packages that a module of ours imports, itself or through other modules of ours."""
    seen: set[Path] = set()
    tops: set[str] = set()
    pending = _files_of(module)
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in imports_of(path):
            tops.add(name.split(".")[0])
            pending.extend(_files_of(name))
    return frozenset(tops)


def _files_of(module: str) -> list[Path]:
    """The file of a module of ours and the __init__ files that importing it runs; none for other packages."""
    parts = module.split(".")
    if parts[0] not in ROOMS:
        return []
    files = [ROOT.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)]
    files.append(ROOT.joinpath(*parts).with_suffix(".py"))
    return [path for path in files if path.is_file()]


def _calls(path: Path, function: str) -> bool:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    calls = [n for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    return any(isinstance(call.func, ast.Name) and call.func.id == function for call in calls)
