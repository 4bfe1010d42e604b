"""Read YAML text strictly: a key given twice is an error, and aliases may not blow a small text up."""

from __future__ import annotations

from typing import Any

import yaml

# The largest data set YAML of the project has a few hundred nodes
MAX_NODES = 100_000


def parse_yaml(text: str) -> Any:
    """The value of the one document in `text`; None where it is empty.

    Raises ValueError or yaml.YAMLError that names the line: syntax, a key given twice in one mapping, a value inside
    itself, or aliases that expand to more than MAX_NODES values.
    """
    loader = yaml.SafeLoader(text)
    try:
        document = loader.get_single_node()
        if document is None:
            return None
        _count_nodes(document, {}, ())
        return loader.construct_document(document)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    finally:
        loader.dispose()


def _count_nodes(node: yaml.Node, counted: dict[int, int], above: tuple[int, ...]) -> int:
    """Nodes at and below `node` with aliases expanded; `counted` holds those of nodes met before, by id."""
    if id(node) in above:
        raise ValueError(f"line {_line(node)}: the value behind an anchor holds itself; write it out")
    if id(node) not in counted:
        path = (*above, id(node))
        counted[id(node)] = 1 + sum(_count_nodes(child, counted, path) for child in _children(node))
    if counted[id(node)] > MAX_NODES:
        raise ValueError(f"line {_line(node)}: its aliases expand to more than {MAX_NODES:,} values; write fewer")
    return counted[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_keys(mapping: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in lines:
            raise ValueError(
                f"line {_line(key)}: key {key.value!r} is given twice, in line {lines[key.value]} too; keep one of them"
            )
        lines[key.value] = _line(key)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
