"""The digest of code: the modules reached, their meaning, not their comments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from msr_models.experiments import code_digest as module
from msr_models.experiments.code_digest import code_digest


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of three modules: a imports b, c stands alone."""
    folder = tmp_path / "msr_models"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""P."""\n')
    (folder / "a.py").write_text('"""A."""\nfrom msr_models.b import f\n\n\ndef g():\n    """G."""\n    return f()\n')
    (folder / "b.py").write_text("def f():\n    return 1\n")
    (folder / "c.py").write_text("X = 1\n")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    _forget()
    yield folder
    _forget()


def _forget() -> None:
    module._tree.cache_clear()
    module._meaning.cache_clear()


def _digest(*names: str) -> str:
    _forget()
    return code_digest(list(names))


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("b.py", "def f():\n    return 2\n", True),
        ("b.py", "# why\ndef f():\n    return 1\n", False),
        ("b.py", 'def f():\n    """One."""\n    return 1\n', False),
        ("c.py", "X = 2\n", False),
        ("a.py", '"""A."""\nfrom msr_models.b import f\n\n\ndef g():\n    return 1 + f()\n', True),
    ],
)
def test_what_changes_the_digest(package: Path, file: str, text: str, changes: bool) -> None:
    before = _digest("msr_models.a")
    (package / file).write_text(text)
    assert (_digest("msr_models.a") != before) == changes


def test_a_model_depends_on_its_own_file_and_its_imports() -> None:
    star = module._reached(["msr_models.models.star"])
    names = {path.name for path in star}
    assert {"star.py", "star_towers.py", "partitioned_norm.py", "base.py"} <= names
    assert "mmoe.py" not in names
