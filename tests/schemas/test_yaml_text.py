"""YAML is read strictly: no key twice, no aliases without bounds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from schemas.errors import DatasetSpecError
from schemas.load_dataset import load_dataset
from schemas.yaml_text import MAX_NODES, parse_yaml
from tests.support.own_log import spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"line 3: key 'a' is given twice, in line 1 too; keep one of them"),
        ("x:\n  - {k: 1}\n  - {k: 1, k: 2}\n", r"line 3: key 'k' is given twice, in line 3 too"),
        ("a: &x [*x]\n", r"line 1: the value behind an anchor holds itself"),
        ("[" * 3000, r"nested too deeply"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)


def test_aliases_that_expand_without_bound_are_refused_at_once() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )
    began = time.monotonic()
    with pytest.raises(ValueError, match=f"expand to more than {MAX_NODES:,} values"):
        parse_yaml(text)
    assert time.monotonic() - began < 1


def test_ordinary_documents_mean_what_they_mean_to_yaml() -> None:
    text = "base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nlist: [*b, 2026-03-01]\n"
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml("") is None


def test_a_data_sets_yaml_with_a_key_twice_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(spec()) + "name: other\n", encoding="utf-8")
    with pytest.raises(DatasetSpecError, match=r"own\.yaml: is not valid YAML: line \d+: key 'name' is given twice"):
        load_dataset(str(path))
