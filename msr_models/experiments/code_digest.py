"""A digest of the code behind a result: the modules that it imports, without comments and docstrings."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "msr_models"


def code_digest(modules: Sequence[str]) -> str:
    """8 hex digits of these modules of msr_models and all that they import from it, directly or indirectly.

    `schemas` is not included: a trial's key contains the values of its settings.
    """
    digest = hashlib.sha256()
    for path in sorted(_reached(modules)):
        digest.update(f"{path.relative_to(ROOT)}\0{_meaning(path)}\0".encode())
    return digest.hexdigest()[:8]


def _reached(modules: Iterable[str]) -> set[Path]:
    seen: set[Path] = set()
    pending = [path for name in modules for path in _files_of(name)]
    while pending:
        path = pending.pop()
        if path not in seen:
            seen.add(path)
            pending.extend(found for name in _imports(path) for found in _files_of(name))
    return seen


def _files_of(name: str) -> list[Path]:
    """The file of a module of msr_models; empty for other names."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return []
    path = ROOT.joinpath(*parts)
    return [found for found in (path.with_suffix(".py"), path / "__init__.py") if found.is_file()]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.extend([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return names


@cache
def _meaning(path: Path) -> str:
    """The syntax tree as text, without docstrings (expressions that are only a constant)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)] or [ast.Pass()]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
