"""List all commands with a line each: python -m jobs.

Commands are read as text, so that the list needs neither Spark nor torch. A command names its group in GROUP; those in
jobs/research/ are research.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GROUPS = {
    "daily": "Daily steps (--dataset D --ds YYYY-MM-DD)",
    "operators": "Operators' tools",
    "research": "Research",
}


@dataclass(frozen=True, slots=True)
class CommandInfo:
    """A command: its module, its group and the first line of its docstring."""

    module: str
    group: str
    summary: str


def commands() -> Iterator[CommandInfo]:
    """All commands, by name. Raises KeyError where one names no group of GROUPS."""
    folder = Path(__file__).parent
    for path in sorted([*folder.glob("[!_]*.py"), *(folder / "research").glob("[!_]*.py")]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body):
            continue
        module = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
        group = "research" if path.parent.name == "research" else _group(tree)
        if group not in GROUPS:
            raise KeyError(f"{module}: GROUP is {group!r}; give one of {', '.join(GROUPS)}")
        yield CommandInfo(module, group, (ast.get_docstring(tree) or "").split("\n")[0])


def _group(tree: ast.Module) -> str | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "GROUP":
            return str(ast.literal_eval(node.value))
    return None


def main() -> None:
    """Print the list; any argument but --help is an error, with the right form of a call."""
    found = list(commands())
    width = max(len(command.module) for command in found)
    for group, title in GROUPS.items():
        print(f"{title}\n")
        for command in found:
            if command.group == group:
                print(f"  {command.module:<{width}}  {command.summary}")
        print()
    print("Options of a command: python -m jobs.<command> --help")
    if wrong := [argument for argument in sys.argv[1:] if argument not in ("-h", "--help")]:
        print(f"error: {wrong[0]}: run a command as python -m jobs.<command>", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
